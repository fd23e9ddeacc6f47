#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A real Debian disk, made by `ring3 image build`: login, no failed unit, a file read back on the host."""
import os
import re
import subprocess

from vm import RING3, Tap, Vm, cache, sha, work

IMAGE = cache("debian-12.img")


def prepare():
    """The disk is built once and kept in the cache."""
    if all(os.path.exists(IMAGE + e) for e in ("", ".vmlinuz", ".initrd")):
        return
    for e in ("", ".vmlinuz", ".initrd"):
        if os.path.exists(IMAGE + e):
            os.unlink(IMAGE + e)
    done = subprocess.run([RING3, "image", "build", "debian-12", "--output", IMAGE], check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900)
    if not Tap.ok(done.returncode == 0, "ring3 image build", done.stdout):
        Tap.done()


prepare()
disk = work("debian.img")
subprocess.run(["cp", "--sparse=always", "--reflink=auto", IMAGE, disk], check=True)
fresh = os.stat(disk).st_blocks * 512
vm = Vm("--kernel", IMAGE + ".vmlinuz", "--initrd", IMAGE + ".initrd", "--disk", f"path={disk}",
        "--net", "user", "--memory", "1G", "--append", "root=/dev/vda1 console=ttyS0 quiet")
if not Tap.ok(vm.until(rb"login: ", 300), "a login prompt", vm.out):
    Tap.done()
vm.send("root")
vm.until(rb"Password: ", 60)
vm.send("ring3")
Tap.ok(vm.until(rb"debian:~# ", 60), "root logs in", vm.out)
vm.send("export TERM=dumb SYSTEMD_COLORS=0; systemctl is-system-running --wait; echo failed $(systemctl --failed --plain --no-legend | wc -l)")
m = vm.until(rb"\nfailed (\d+)", 300)
Tap.ok(m and m.group(1) == b"0", "no failed unit", vm.out)
vm.send("networkctl is-online >/dev/null; ip -4 -o addr show scope global; echo ad''dresses")
m = vm.until(rb"10\.0\.2\.15[\s\S]*\naddresses", 60)
Tap.ok(m, "an address by DHCP", vm.out)
vm.send("for i in $(seq 200); do echo part $i; head -c 1048576 /usr/bin/bash; done >/root/f; sync; echo sum $(sha256sum </root/f)")
m = vm.until(rb"\nsum ([0-9a-f]{64})", 300)
vm.send("poweroff")
status = vm.finish(180)
Tap.ok(status == 0, "power-off ends with 0", vm.out + f"\n{status}".encode())
Tap.ok(not vm.trouble(), "no trouble in the kernel's messages", vm.trouble())
check = subprocess.run(["/usr/sbin/e2fsck", "-fn", f"{disk}?offset=1048576"], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, check=False)
Tap.ok(check.returncode == 0, "the file system is clean", check.stdout)
subprocess.run(["/usr/sbin/debugfs", "-R", f"dump /root/f {work('f')}", f"{disk}?offset=1048576"],
               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
Tap.ok(m and os.path.exists(work("f")) and sha(work("f")) == m.group(1).decode(), "200 MB are the same on the host")
grown = os.stat(disk).st_blocks * 512 - fresh
Tap.ok(grown < 400 << 20, "the image stays sparse", f"grew by {grown >> 20} MiB")
Tap.done()
