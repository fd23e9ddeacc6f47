#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Boots every stock kernel on every engine by every entry, as an ordinary user; 32-bit programs."""
import re
import subprocess
import time

from vm import LONG, Tap, cache, drop_root, run_script, work

KERNELS = {
    "generic bzImage": ("amd64", "vmlinuz-amd64"),
    "cloud bzImage": ("cloud", "vmlinuz-cloud"),
    "generic ELF (PVH)": ("amd64", "vmlinux-amd64.elf"),
    "cloud ELF (PVH)": ("cloud", "vmlinux-cloud.elf"),
}
INTERP = KERNELS if LONG else ("cloud bzImage",)

PROGRAM32 = r"""
static void out(const char *s, unsigned n)
{
	unsigned r;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(4), "b"(1), "c"(s), "d"(n) : "memory");
}
void _start(void)
{
	unsigned x = 1, i;
	double d = 0;
	char hex[9];
	for (i = 0; i < 20000000; i++) {
		x = x * 1664525u + 1013904223u;
		d += (double)(x >> 20);
	}
	x ^= (unsigned)(unsigned long long)d;
	for (i = 0; i < 8; i++)
		hex[i] = "0123456789abcdef"[(x >> (28 - 4 * i)) & 15];
	hex[8] = '\n';
	out("sum32 ", 6);
	out(hex, 9);
	__asm__ volatile("int $0x80" : : "a"(1), "b"(0));
	for (;;)
		;
}
"""


def kernels():
    script = "uname -r; head -c 3000000 /bin/busybox | sha256sum >/dev/null; sleep 0.2; date +%s; exit 0\n"
    for name, (flavour, kernel) in KERNELS.items():
        run_script(f"dbt boots the {name}", script, "--engine", "dbt", flavour=flavour,
                   kernel=cache(kernel))
    for name in INTERP:
        flavour, kernel = KERNELS[name]
        start = time.monotonic()
        vm = run_script(f"interp boots the {name}", script, "--engine", "interp", flavour=flavour,
                        kernel=cache(kernel), seconds=300)
        print(f"# {time.monotonic() - start:.1f} s from start to power-off; at most 300 s")
        now = re.findall(rb"^(\d{10})\r?$", vm.out, re.M)
        Tap.ok(bool(now) and abs(int(now[-1]) - time.time()) < 30, "the guest's clock is the host's", vm.out)


def program32():
    source, binary = work("p32.c"), work("p32")
    with open(source, "w", encoding="utf-8") as f:
        f.write(PROGRAM32)
    made = subprocess.run(["gcc", "-m32", "-O2", "-nostdlib", "-static", "-ffreestanding", "-fno-pic",
                           "-fno-stack-protector", "-mfpmath=387", "-mno-sse", "-o", binary, source],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if not Tap.ok(made.returncode == 0, "a 32-bit program is built", made.stdout):
        return
    x, d = 1, 0
    for _ in range(20000000 if LONG else 0):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        d += x >> 20
    want = (x ^ (d & 0xFFFFFFFF)) if LONG else 0xAE98418B
    vm = run_script("dbt runs a 32-bit program", "/p32\n", "--engine", "dbt", flavour="amd64",
                    files=[("p32", binary, 0o755)])
    got = re.search(rb"sum32 ([0-9a-f]{8})", vm.out)
    Tap.ok(got is not None and int(got.group(1), 16) == want, "and its result is right",
           f"want {want:08x}, got {got.group(1) if got else None}")


drop_root()
kernels()
program32()
Tap.done()
