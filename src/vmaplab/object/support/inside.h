/* SPDX-License-Identifier: GPL-2.0-only */
/* Compiled at the end of mm/vmalloc.c: entry points for what is static there. */
#ifdef CONFIG_PROC_FS
int vmaplab_vmallocinfo(struct seq_file *m);

int vmaplab_vmallocinfo(struct seq_file *m)
{
	return vmalloc_info_show(m, NULL);
}
#endif
