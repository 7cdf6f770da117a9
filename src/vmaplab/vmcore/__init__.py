# SPDX-License-Identifier: GPL-2.0-only
"""Memory of another kernel, a vmcore, /proc/kcore or a virtual machine, and its vmalloc areas.

What is read is data: nothing of it runs, and no size that it tells is believed.
"""
