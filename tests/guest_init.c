// SPDX-License-Identifier: GPL-2.0-only
/*
 * The only process of a booted kernel: it makes vmap()s in the ways a program can (io_uring rings in memory of its own,
 * a BPF ring buffer), prints what the kernel says of its areas, and stays.
 */
#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, MMAP = 9, NANOSLEEP = 35, MOUNT = 165, OPENAT = 257, MKDIRAT = 258, FINIT = 313, BPF = 321, RING = 425,
       MADVISE = 28, IOCTL = 16 };
static long call(long n, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long found;

	__asm__ volatile("syscall" : "=a"(found) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return found;
}
#elif defined(__aarch64__)
enum { READ = 63, WRITE = 64, MMAP = 222, NANOSLEEP = 101, MOUNT = 40, OPENAT = 56, MKDIRAT = 34, FINIT = 273, BPF = 280, RING = 425,
       MADVISE = 233, IOCTL = 29 };
static long call(long n, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
#endif

enum { HERE = -100, PAGE = 4096, HUGE = 2 << 20 };

static void say(const char *text)
{
	long length = 0;

	while (text[length])
		length++;
	call(WRITE, 1, (long)text, length, 0, 0, 0);
}

static void number_in(const char *what, long value, int base)
{
	char text[24] = { 0 };
	int at = 20;
	unsigned long left = value < 0 && base == 10 ? -value : value;

	text[at] = '\n';
	do
		text[--at] = "0123456789abcdef"[left % base];
	while (left /= base);
	if (value < 0 && base == 10)
		text[--at] = '-';
	say(what);
	say(text + at);
}

static void number(const char *what, long value)
{
	number_in(what, value, 10);
}

static void put(const char *path, const char *text, long length)
{
	call(WRITE, call(OPENAT, HERE, (long)path, 1, 0, 0, 0), (long)text, length, 0, 0, 0);
}

static void show(const char *path)
{
	static char text[1 << 16];
	long file = call(OPENAT, HERE, (long)path, 0, 0, 0, 0), length;

	say("<<< ");
	say(path);
	say("\n");
	while (file >= 0 && (length = call(READ, file, (long)text, sizeof(text), 0, 0, 0)) > 0)
		call(WRITE, 1, (long)text, length, 0, 0, 0);
	say(">>>\n");
}

/* Anonymous memory, aligned to a PMD: huge pages where they are to be had, or pages touched from the end. */
static char *memory(long size, int huge)
{
	long at = call(MMAP, 0, size + HUGE, 3, 0x22, -1, 0);
	char *start = (char *)((at + HUGE - 1) & -(long)HUGE);

	call(MADVISE, (long)start, size, huge ? 14 : 15, 0, 0, 0); /* MADV_HUGEPAGE, MADV_NOHUGEPAGE */
	for (long offset = size - PAGE; offset >= 0; offset -= PAGE)
		start[offset] = 1;
	return start;
}

/* io_uring_setup(2) with IORING_SETUP_NO_MMAP: both rings in our memory, which the kernel vmap()s. */
static void ring(const char *what, unsigned int entries, int huge)
{
	unsigned int params[30] = { 0 };

	params[2] = 1 << 14;
	*(char **)&params[18] = memory(entries * 64, huge); /* sq_off.user_addr: the entries */
	*(char **)&params[28] = memory(entries * 64, huge); /* cq_off.user_addr: both rings */
	number(what, call(RING, entries, (long)params, 0, 0, 0, 0));
}

/* A buffer of the system heap, mapped. */
static void dma_buf(long size)
{
	struct { unsigned long size; unsigned int fd, flags; unsigned long heap_flags; } wanted = { size, 0, 2, 0 };
	long heap = call(OPENAT, HERE, (long)"/dev/dma_heap/system", 2, 0, 0, 0);

	if (heap < 0 || call(IOCTL, heap, 0xc0184800, (long)&wanted, 0, 0, 0) < 0)
		return;
	number_in("dmabuf ", call(MMAP, 0, size, 3, 1, wanted.fd, 0), 16);
}

/* The headers and notes of /proc/kcore, in hexadecimal. */
static void kcore(void)
{
	static unsigned char raw[1 << 16];
	static char text[1 << 17];
	long length = call(READ, call(OPENAT, HERE, (long)"/proc/kcore", 0, 0, 0, 0), (long)raw, sizeof(raw), 0, 0, 0);

	say("<<< /proc/kcore\n");
	for (long at = 0; at < length; at++) {
		text[2 * at] = "0123456789abcdef"[raw[at] >> 4];
		text[2 * at + 1] = "0123456789abcdef"[raw[at] & 15];
	}
	for (long at = 0, done; at < 2 * length; at += done)
		if ((done = call(WRITE, 1, (long)text + at, 2 * length - at, 0, 0, 0)) <= 0)
			break;
	say("\n>>>\n");
}

static char events[1 << 16];

void _start(void)
{
	struct { unsigned int type, key, value, entries, rest[28]; } map = { 27, 0, 0, 1 << 16 };
	char module[] = "/m0.ko";
	long pause[2] = { 1000, 0 }, file;

	call(MKDIRAT, HERE, (long)"/proc", 0755, 0, 0, 0);
	call(MKDIRAT, HERE, (long)"/sys", 0755, 0, 0, 0);
	call(MOUNT, (long)"proc", (long)"/proc", (long)"proc", 0, 0, 0);
	call(MOUNT, (long)"sys", (long)"/sys", (long)"sysfs", 0, 0, 0);
	call(MOUNT, (long)"dev", (long)"/dev", (long)"devtmpfs", 0, 0, 0);
	call(MOUNT, (long)"trace", (long)"/sys/kernel/tracing", (long)"tracefs", 0, 0, 0);
	put("/proc/sys/kernel/kptr_restrict", "1", 1);
	/* Machines of less than 512 MB have no huge pages unless they are told to. */
	put("/sys/kernel/mm/transparent_hugepage/enabled", "always", 6);
	file = call(OPENAT, HERE, (long)"/events", 0, 0, 0, 0);
	if (file >= 0) {
		put("/sys/kernel/tracing/kprobe_events", events, call(READ, file, (long)events, sizeof(events), 0, 0, 0));
		put("/sys/kernel/tracing/events/kprobes/enable", "1", 1);
	}
	for (module[2] = '0'; module[2] <= '9'; module[2]++) {
		file = call(OPENAT, HERE, (long)module, 0, 0, 0, 0);
		if (file >= 0)
			number("module ", call(FINIT, file, (long)"", 0, 0, 0, 0));
	}
	ring("ring ", 32768, 1);
	ring("ring ", 4096, 0);
	ring("ring ", 64, 0);
	number("bpf ", call(BPF, 0, (long)&map, 72, 0, 0, 0));
	dma_buf(8 << 20);
	show("/sys/kernel/tracing/trace");
	put("/sys/kernel/tracing/events/kprobes/enable", "0", 1);
	kcore();
	show("/proc/buddyinfo");
	show("/proc/vmallocinfo");
	say("is ready\n");
	for (;;)
		call(NANOSLEEP, (long)pause, 0, 0, 0, 0, 0);
}
