#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Boots every stock kernel on every engine by every entry; shell, reboot, signals, panic, 32-bit programs."""
import os
import pty
import re
import signal
import subprocess
import termios
import time

from vm import LONG, PROMPT, RING3, Tap, Vm, cache, initrd, run_script, work

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
        vm = run_script(f"interp boots the {name}", script, "--engine", "interp", flavour=flavour,
                        kernel=cache(kernel), seconds=300)
        now = re.findall(rb"^(\d{10})\r?$", vm.out, re.M)
        Tap.ok(bool(now) and abs(int(now[-1]) - time.time()) < 30, "the guest's clock is the host's", vm.out)


def program32():
    source, binary = work("p32.c"), work("p32")
    with open(source, "w", encoding="ascii") as f:
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


def shell():
    vm = Vm("--kernel", cache("vmlinuz-amd64"), "--initrd", cache("initrd-amd64.img"))
    Tap.ok(vm.until(PROMPT, 60), "the default guest reaches its shell", vm.out)
    vm.send("echo $((6 * 7)) $(id -u)")
    Tap.ok(vm.until(rb"\n42 0\r", 20), "the shell answers", vm.out)
    vm.send("reboot")
    Tap.ok(vm.until(rb"Welcome to ring3", 60) and vm.until(PROMPT, 20), "reboot reboots", vm.out)
    vm.send("poweroff")
    status = vm.finish(30)
    Tap.ok(status == 0, "power-off ends with 0", status)


def signals():
    vm = Vm("--kernel", cache("vmlinuz-cloud"), "--initrd", cache("initrd-cloud.img"))
    vm.until(PROMPT, 60)
    time.sleep(1.5)  # the guest's power-button listener starts after the shell
    vm.signal(signal.SIGTERM)
    status = vm.finish(30)
    Tap.ok(status == 0 and b"Power down" in vm.out, "SIGTERM powers the guest down", vm.out)

    vm = Vm("--kernel", cache("vmlinuz-cloud"), "--initrd", initrd("cloud", "echo deaf; sleep 300\n"))
    vm.until(rb"deaf", 60)
    vm.signal(signal.SIGTERM)
    time.sleep(1)
    alive = vm.proc.poll() is None
    vm.signal(signal.SIGTERM)
    status = vm.finish(20)
    Tap.ok(alive and status == 4, "a second SIGTERM ends it with 4", f"alive {alive}, status {status}")


def panic():
    vm = Vm("--kernel", cache("vmlinuz-cloud"), "--append", "panic=1", "--no-reboot",
            "--initrd", initrd("cloud", "echo c >/proc/sysrq-trigger\n"))
    status = vm.finish(60)
    Tap.ok(status == 3 and b"Kernel panic" in vm.out, "a kernel panic is reported with 3", f"status {status}")


def terminal():
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    proc = subprocess.Popen([RING3, "run"], stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    out = b""
    end = time.monotonic() + 60
    while time.monotonic() < end and not re.search(PROMPT, out):
        out += os.read(master, 4096)
    raw = termios.tcgetattr(slave) != before
    os.write(master, b"\x01x")
    try:
        status = proc.wait(20)
    except subprocess.TimeoutExpired:
        proc.kill()
        status = "late"
    Tap.ok(status == 0, "Ctrl-A x ends it", status)
    Tap.ok(raw and termios.tcgetattr(slave) == before, "the terminal is raw while it runs and restored after")


kernels()
program32()
shell()
signals()
panic()
terminal()
Tap.done()
