# SPDX-License-Identifier: GPL-2.0-only
"""Calls that overlap: the kernel's own code on several CPUs of one emulated machine, under every schedule that matters.

Data flows one way: :mod:`.stepper` runs a CPU for so many instructions and logs what it touches, :mod:`.overlap` runs
calls on several CPUs by a schedule, :mod:`.order` says which accesses no lock and no barrier keeps apart,
:mod:`.points` where it can matter to switch, :mod:`.judge` whether what came out is what some order of the calls
gives, :mod:`.explore` tries the schedules, :mod:`.pairs` says of which calls, and :mod:`.campaign` does that on all
CPUs of this machine.
"""
