#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The stock kernel under dbt and interp in lockstep: no difference; a planted one is found."""
import re

from vm import LONG, Tap, Vm, cache, initrd, work

MILLIONS = 50
# The bzImage spends its first instructions unpacking itself; the ELF begins in the kernel proper.
KERNELS = {"bzImage": "vmlinuz-amd64", "ELF (PVH)": "vmlinux-amd64.elf"}


def lockstep(kernel, *args, script=None, seconds=200):
    disk = initrd("amd64", script) if script else cache("initrd-amd64.img")
    vm = Vm("--kernel", cache(kernel), "--initrd", disk, "--memory", "512M", *args)
    return vm, vm.finish(seconds)


def same(name, kernel, least, *args, **more):
    vm, status = lockstep(kernel, *args, **more)
    done = re.search(rb"lockstep: (\d+) instructions, (\d+) blocks, 0 differences \((\d+) ", vm.out)
    good = Tap.ok(status == 0 and done is not None and int(done.group(1)) >= least, name, vm.out)
    if good:
        print(f"# {name}: " + done.group(0).decode() + "instructions by interp alone)", flush=True)
    return vm


def boots():
    for name, kernel in KERNELS.items():
        same(f"{MILLIONS} million instructions of the {name}", kernel, MILLIONS * 1000000,
             "--serial", "null", f"--lockstep={MILLIONS}000000")


def planted():
    vm, status = lockstep("vmlinux-amd64.elf", "--serial", "null", "--lockstep=50000000",
                          "--lockstep-plant", "3000")
    Tap.ok(status == 2 and b"lockstep: registers differ" in vm.out and
           b"interp and dbt differ after" in vm.out and b"lockstep: the translation:" in vm.out,
           "a planted wrong translation is found", vm.out)


def whole_boot():
    script = ("md5sum /bin/busybox; ls -l / /proc; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done\n"
              "gzip -c /bin/busybox | gunzip -c | cmp - /bin/busybox && echo all is $i\n"
              "dd if=/dev/vda of=/tmp/disk bs=64k 2>/dev/null; cmp /tmp/disk /dev/vda && echo disk is read\n"
              "awk 'BEGIN { for (i = 1; i < 20000; i++) s += sqrt(i) * sin(i); print s }'; exit 0\n")
    with open(work("disk"), "wb") as f:
        f.write(bytes(range(256)) * 16384)
    vm = same("a whole boot, user programs and power-off", "vmlinux-amd64.elf", 10**9, "--lockstep",
              "--disk", "path=" + work("disk"), script=script, seconds=3600)
    Tap.ok(b"all is 3000" in vm.out and b"disk is read" in vm.out, "the guest's programs worked",
           vm.out)


boots()
planted()
if LONG:
    whole_boot()
Tap.done()
