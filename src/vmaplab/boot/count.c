/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A plugin of QEMU (version 1 of its interface): how often each translated block has run, in a file that whoever made it
 * reads meanwhile. The file has a word with the number of blocks, then four words a block: address, instructions, bytes,
 * runs.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef uint64_t qemu_plugin_id_t;

enum { INLINE_ADD_U64 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
						  void (*call)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *where, uint64_t add);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t number);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t *told;
static uint64_t most;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	uint64_t number = __atomic_fetch_add(&told[0], 1, __ATOMIC_SEQ_CST), bytes = 0;
	size_t count = qemu_plugin_tb_n_insns(tb);
	uint64_t *entry = told + 4 + 4 * number;

	if (number >= most)
		return; /* the reader sees that there are more than there is room for */
	for (size_t n = 0; n < count; n++)
		bytes += qemu_plugin_insn_size(qemu_plugin_tb_get_insn(tb, n));
	entry[0] = qemu_plugin_tb_vaddr(tb);
	entry[1] = count;
	entry[2] = bytes;
	qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &entry[3], 1);
}

__attribute__((visibility("default")))
int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
	const char *path = argc == 1 && !strncmp(argv[0], "out=", 4) ? argv[0] + 4 : NULL;
	int file = path ? open(path, O_RDWR) : -1;
	off_t size = file >= 0 ? lseek(file, 0, SEEK_END) : -1;

	if (size < 64)
		return -1;
	told = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (told == MAP_FAILED)
		return -1;
	most = (size - 32) / 32;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
