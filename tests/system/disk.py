#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Data through virtio-blk to the host file and back, read again by tools that know nothing of ring3."""
import os
import re
import subprocess

from vm import Tap, Vm, cache, initrd, make_file, random_file, run_script, sha, work

SIZE = 2 << 30


def used(path):
    return os.stat(path).st_blocks * 512


def fresh(name, size=SIZE):
    path = work(name)
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def ext4(name):
    path = fresh(name)
    subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-F", path], check=True)
    return path


def fsck(path):
    return subprocess.run(["/usr/sbin/e2fsck", "-fn", path], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)


def file_round_trip():
    disk = ext4("files.img")
    vm = run_script("a 200 MB file is written and synced",
                    f"mount -t ext4 /dev/vda /mnt && {make_file('/mnt/f')} &&"
                    " sync && echo sum $(sha256sum </mnt/f) && umount /mnt\n", "--disk", f"path={disk}",
                    files=[random_file()])
    want = re.search(rb"sum ([0-9a-f]{64})", vm.out)
    checked = fsck(disk)
    Tap.ok(checked.returncode == 0, "the file system is clean", checked.stdout)
    subprocess.run(["/usr/sbin/debugfs", "-R", f"dump /f {work('f')}", disk], check=False,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    Tap.ok(want is not None and os.path.exists(work("f")) and sha(work("f")) == want.group(1).decode(),
           "the host reads the same bytes")
    Tap.ok(used(disk) < 300 << 20, "the image stays sparse", used(disk))


def raw_patterns():
    """Odd offsets and sizes, direct and cached, compared with a file the host made."""
    disk, source = fresh("raw.img"), work("source")
    with open(source, "wb") as f:
        f.write(os.urandom(9 * 1000 * 1000 + 512 * 7))
    os.truncate(source, os.path.getsize(source) // 512 * 512)
    blocks = os.path.getsize(source) // 512
    run_script("writes of odd sizes", "s=1000; for bs in 512 1536 65536; do"
               " dd if=/source of=/dev/vda bs=$bs seek=$((s * 512 / bs)) conv=notrunc 2>/dev/null || exit 1;"
               " s=$((s + 786432)); done; dd if=/source of=/dev/vda bs=512 seek=3000000 oflag=direct"
               " count=200 2>/dev/null && sync\n", "--disk", f"path={disk}", files=[("source", source, 0o644)])
    with open(source, "rb") as f:
        want = f.read()
    start, good = 1000, True
    with open(disk, "rb") as f:
        for bs in (512, 1536, 65536):
            f.seek(start * 512 // bs * bs)
            good = good and f.read(len(want)) == want
            start += 786432
        f.seek(3000000 * 512)
        good = good and f.read(200 * 512) == want[:200 * 512]
    Tap.ok(good, f"the host file holds them ({blocks} sectors, three sizes)")


def discard():
    disk = fresh("discard.img", 256 << 20)
    with open(disk, "r+b") as f:
        for _ in range(256):
            f.write(b"\xa5" * (1 << 20))
        f.flush()
        os.fsync(f.fileno())
    before = used(disk)
    vm = run_script("discard and the disk's name", "cat /sys/block/vda/serial; echo; blkdiscard -o 1048576 -l 134217728 /dev/vda\n",
                    "--disk", f"path={disk},serial=name42")
    Tap.ok(b"name42" in vm.out, "the guest reads the disk's name", vm.out)
    Tap.ok(before - used(disk) >= 127 << 20, "discard frees the host's blocks", f"{before} -> {used(disk)}")
    with open(disk, "rb") as f:
        first = f.read(1 << 20)
        middle = f.read(1 << 20)
        f.seek(129 << 20)
        last = f.read(1 << 20)
    Tap.ok(first == last == b"\xa5" * (1 << 20) and not any(middle), "only what was discarded is gone")


def readonly_and_lock():
    disk = ext4("ro.img")
    before = sha(disk)
    run_script("a read-only disk refuses writes", "! dd if=/dev/zero of=/dev/vda count=1 2>/dev/null &&"
               " mount -o ro -t ext4 /dev/vda /mnt\n", "--disk", f"path={disk},readonly=on")
    Tap.ok(sha(disk) == before, "and is unchanged")
    vm = Vm("--kernel", cache("vmlinuz-cloud"), "--initrd", initrd("cloud", "echo up; sleep 100\n"),
            "--disk", f"path={disk}")
    vm.until(rb"\bup\r", 60)
    second = Vm("--kernel", cache("vmlinuz-cloud"), "--initrd", cache("initrd-cloud.img"), "--disk", f"path={disk}")
    status = second.finish(20)
    Tap.ok(status == 1 and disk.encode() in second.out, "a disk in use is refused, and named", second.out)
    vm.kill()


file_round_trip()
raw_patterns()
discard()
readonly_and_lock()
Tap.done()
