#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""From start to end: shell, power-off, reboot, panic, signals, keys, the terminal's mode, disks made durable."""
import os

import signal
import subprocess
import time

from vm import PROMPT, Tap, Vm, cache, drop_root, initrd, work

TWIN = os.environ["TWIN"]  # a guest that starts at once: tests/guest/twin.c

# Notes every fdatasync and fsync in a file.
SHIM = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static int note(long number, int fd)
{
	int log = open(getenv("SYNC_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0600);
	if (write(log, "s", 1) != 1)
		abort();
	close(log);
	return (int)syscall(number, fd);
}
int fdatasync(int fd) { return note(SYS_fdatasync, fd); }
int fsync(int fd) { return note(SYS_fsync, fd); }
"""


def shell():
    vm = Vm()
    Tap.ok(vm.until(rb"ring3: engine (\S+): .+\n", 5), "one line says which engine runs", vm.out)
    Tap.ok(vm.until(PROMPT, 60), "the default guest reaches its shell", vm.out)
    vm.send("echo $((6 * 7)) $(id -u)")
    Tap.ok(vm.until(rb"\n42 0\r", 20), "the shell answers", vm.out)
    vm.send("reboot")
    Tap.ok(vm.until(rb"Welcome to ring3", 60) and vm.until(PROMPT, 20), "reboot reboots", vm.out)
    vm.send("reboot -f")
    Tap.ok(vm.until(rb"Welcome to ring3", 60) and vm.until(PROMPT, 20), "and again", vm.out)
    vm.send("poweroff")
    status = vm.finish(30)
    Tap.ok(status == 0 and vm.out.count(b"Welcome") == 3, "power-off ends with 0", status)

    vm = Vm(*CLOUD, initrd("cloud", "sync; reboot -f\n"), "--no-reboot")
    status = vm.finish(60)
    Tap.ok(status == 0 and b"Restarting" in vm.out, "--no-reboot: a reboot ends it with 0", vm.out)
    vm = Vm(*CLOUD, initrd("cloud", "exit\n"))
    status = vm.finish(60)
    Tap.ok(status == 0, "the end of the script powers off", vm.out)


def panic():
    vm = Vm(*CLOUD, initrd("cloud", "echo c >/proc/sysrq-trigger\n"), "--append", "quiet panic=1")
    status = vm.finish(60)
    Tap.ok(status == 3 and b"ring3: guest kernel panic: sysrq triggered crash" in vm.out,
           "a kernel panic is reported, its reset ends with 3", vm.out)
    vm = Vm(*CLOUD, cache("initrd-cloud.img"), "--append", "quiet rdinit=/bin/busybox")
    Tap.ok(vm.until(rb"ring3: guest kernel panic: Attempted to kill init", 60, True), "a panic without a reset is reported",
           vm.out)
    vm.signal(signal.SIGTERM)
    vm.until(rb"power button", 10, True)
    vm.signal(signal.SIGTERM)
    status = vm.finish(20)
    Tap.ok(status in (3, 4), "and ends by two signals", status)


def disk_with(name):
    path = work(name)
    with open(path, "wb") as f:
        f.truncate(64 << 20)
    return path


def syncs(log):
    return os.path.getsize(log) if os.path.exists(log) else 0


def signals():
    """The guest writes without flushing; a signal must leave the data in the file, flushed."""
    source, shim = work("shim.c"), work("shim.so")
    with open(source, "w", encoding="utf-8") as f:
        f.write(SHIM)
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", shim, source], check=True)
    log = work("syncs")
    env = dict(os.environ, LD_PRELOAD=shim, SYNC_LOG=log)
    write = "yes written | dd of=/dev/vda bs=1M count=8 iflag=fullblock 2>/dev/null"
    want = (b"written\n" * (1 << 17))[:1 << 20] * 8

    disk = disk_with("one.img")
    vm = Vm(*CLOUD, cache("initrd-cloud.img"), "--disk", f"path={disk}", env=env)
    vm.until(PROMPT, 60)
    vm.send(write + "; echo do''ne")
    vm.until(rb"\ndone", 60)
    vm.send("while ! pidof acpid; do sleep 0.1; done; echo li''stens")  # it starts after the shell
    Tap.ok(vm.until(rb"\nlistens", 30), "the guest listens to its power button", vm.out)
    vm.signal(signal.SIGTERM)
    status = vm.finish(30)
    Tap.ok(status == 0 and b"Power down" in vm.out, "SIGTERM powers the guest down", f"{vm.out}, {status}")
    with open(disk, "rb") as f:
        Tap.ok(f.read(8 << 20) == want, "and what it had written is on the disk")
    Tap.ok(syncs(log) > 0, "made durable")

    disk = disk_with("two.img")
    deaf = f"{write}; sync; echo deaf; sleep 300\n"
    for name, second in (("SIGTERM", signal.SIGTERM), ("SIGHUP", signal.SIGHUP)):
        vm = Vm(*CLOUD, initrd("cloud", deaf), "--disk", f"path={disk}", env=env)
        vm.until(rb"deaf", 60)
        vm.signal(signal.SIGTERM)
        Tap.ok(vm.until(rb"power button pressed", 10), "the signal is acknowledged", vm.out)
        time.sleep(0.5)
        alive, before = vm.proc.poll() is None, syncs(log)
        vm.signal(second)
        status = vm.finish(20)
        Tap.ok(alive and status == 4, f"a second one, {name}, ends a deaf guest with 4", f"alive {alive}, {status}")
        Tap.ok(syncs(log) > before, "after making its disk durable", f"{before} {syncs(log)}")
        with open(disk, "rb") as f:
            Tap.ok(f.read(8 << 20) == want, "which holds what was written")


def keys():
    vm = Vm(tty=True)
    vm.until(PROMPT, 60)
    Tap.ok(not vm.terminal_restored(), "the terminal is raw while a guest runs")
    vm.keys(b"\x01c")
    Tap.ok(vm.until(rb"\(ring3\) ", 10), "Ctrl-A c opens the monitor", vm.out)
    vm.keys(b"help\r")
    Tap.ok(vm.until(rb"powerdown", 10) and vm.until(rb"\(ring3\) ", 10), "it lists its commands", vm.out)
    vm.keys(b"pause\rregisters\rresume\rstatus\r")
    Tap.ok(vm.until(rb"(?i)rip\s*=?\s*[0-9a-f]{16}", 10) and vm.until(rb"running", 10), "it shows registers", vm.out)
    vm.keys(b"\x01c")
    vm.until(rb"\[console\]", 10)
    vm.keys(b"echo $((6 * 7)) back\r")
    Tap.ok(vm.until(rb"\n42 back", 10), "Ctrl-A c goes back to the guest", vm.out)
    vm.keys(b"stty -icanon; dd bs=1 count=1 2>/dev/null | od -An -tx1; stty icanon\r")
    time.sleep(1)
    vm.keys(b"\x01a")
    Tap.ok(vm.until(rb"\s01\r", 10), "Ctrl-A a sends Ctrl-A", vm.out)
    vm.keys(b"\x01x")
    status = vm.finish(20)
    Tap.ok(status == 0, "Ctrl-A x ends it with 0", status)
    Tap.ok(vm.terminal_restored(), "and the terminal is as before")

    vm = Vm(tty=True)
    vm.until(PROMPT, 60)
    vm.keys(b"\x03sleep 100\r")
    time.sleep(0.5)
    vm.keys(b"\x03echo in''terrupted\r")
    Tap.ok(vm.until(rb"\ninterrupted", 10), "Ctrl-C is the guest's", vm.out)
    vm.keys(b"\x01c")
    vm.until(rb"\(ring3\) ", 10)
    vm.keys(b"powerdown\r\x01c")
    status = vm.finish(30)
    Tap.ok(status == 0 and vm.terminal_restored(), "the monitor's powerdown ends it with 0", vm.out)


def on_terminal(name, want, act, *args):
    """Whatever the end, the terminal is as before."""
    vm = Vm("--kernel", twin, "--memory", "64M", *args, tty=True)
    started = vm.until(rb"running", 20)
    raw = not vm.terminal_restored()
    act(vm)
    status = vm.finish(20)
    Tap.ok(started and raw and vm.terminal_restored() and status in want, f"the terminal after {name}",
           vm.out + f"\nstarted {started} raw {raw} restored {vm.terminal_restored()} status {status}".encode())


def one(number):
    return lambda vm: vm.signal(number)


def two(number):
    def act(vm):
        vm.signal(number)
        vm.until(rb"power button", 10)
        vm.signal(number)
    return act


def terminal():
    for engine in ("dbt", "interp"):
        busy = ("--engine", engine, "--append", "sum=1000000000000")
        on_terminal(f"the guest's power-off, {engine}", (0,), lambda vm: None, "--engine", engine, "--append", "sum=100000")
        on_terminal(f"Ctrl-A x, {engine}", (0,), lambda vm: vm.keys(b"\x01x"), *busy)
        for s in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP"):
            on_terminal(f"{s} twice, {engine}", (4,), two(getattr(signal, s)), *busy)
        for s in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGALRM"):
            number = getattr(signal, s)
            on_terminal(f"{s} from outside, {engine}", (-number,), one(number), *busy)

    def stop(vm):
        vm.signal(signal.SIGTSTP)
        _, state = os.waitpid(vm.proc.pid, os.WUNTRACED)
        Tap.ok(os.WIFSTOPPED(state) and vm.terminal_restored(), "the terminal while it is stopped")
        vm.signal(signal.SIGCONT)
        time.sleep(0.3)
        Tap.ok(not vm.terminal_restored(), "raw again when it goes on")
        vm.keys(b"\x01x")

    on_terminal("a stop", (0,), stop, "--append", "sum=1000000000000")


(twin,) = drop_root(TWIN)
CLOUD = ("--kernel", cache("vmlinuz-cloud"), "--initrd")
shell()
panic()
signals()
keys()
terminal()
Tap.done()
