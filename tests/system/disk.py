#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Data through virtio-blk to the host file and back, read again by tools that know nothing of ring3."""
import os
import re
import subprocess

from vm import LONG, Tap, Vm, cache, drop_root, initrd, make_file, random_file, run_script, sha, work

SIZE = 2 << 30
AIO = ("io_uring", "threads")


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


def dump(disk, name):
    subprocess.run(["/usr/sbin/debugfs", "-R", f"dump {name} {work('f')}", disk], check=False,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return sha(work("f")) if os.path.exists(work("f")) else ""


def file_round_trip(aio):
    """ext4 made on the host, with a file the guest must find; 200 MB written there, both read on the host."""
    folder, disk = work("tree"), fresh(f"files-{aio}.img")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "given"), "wb") as f:
        f.write(os.urandom(20 << 20))
    given = sha(os.path.join(folder, "given"))
    subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-F", "-d", folder, disk], check=True)
    vm = run_script(f"a 200 MB file is written and synced, {aio}",
                    "mount -t ext4 /dev/vda /mnt && echo given $(sha256sum </mnt/given) &&"
                    f" {make_file('/mnt/f')} &&"
                    " sync && echo 3 >/proc/sys/vm/drop_caches && echo sum $(sha256sum </mnt/f) && umount /mnt\n",
                    "--disk", f"path={disk},aio={aio}", files=[random_file()])
    Tap.ok(f"given {given}".encode() in vm.out, "the guest reads the host's file", vm.out)
    want = re.search(rb"sum ([0-9a-f]{64})", vm.out)
    checked = fsck(disk)
    Tap.ok(checked.returncode == 0, "the file system is clean", checked.stdout)
    Tap.ok(want is not None and dump(disk, "/f") == want.group(1).decode(), "the host reads the same bytes")
    grown = used(disk) >> 20
    Tap.ok(220 <= grown < 300 and os.path.getsize(disk) == SIZE, f"the image stays sparse: {grown} MiB of 2048")
    vm = run_script("the file is removed and its room given back",
                    "mount -t ext4 /dev/vda /mnt && rm /mnt/f && sync && fstrim -v /mnt && umount /mnt\n",
                    "--disk", f"path={disk},aio={aio}")
    Tap.ok(used(disk) >> 20 < grown - 195, f"discard frees the host's blocks: {used(disk) >> 20} MiB left", vm.out)
    checked = fsck(disk)
    Tap.ok(checked.returncode == 0 and dump(disk, "/given") == given, "the rest is untouched", checked.stdout)
    os.unlink(disk)


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
    os.chmod(disk, 0o444)
    run_script("a disk without write permission, readonly=on", "mount -o ro -t ext4 /dev/vda /mnt\n",
               "--disk", f"path={disk},readonly=on")
    os.chmod(disk, 0o644)
    boot = ("--kernel", cache("vmlinuz-cloud"), "--initrd", initrd("cloud", "echo up; sleep 100\n"), "--disk")
    vm = Vm(*boot, f"path={disk}")
    vm.until(rb"\bup\r", 60)
    for how in ("", ",readonly=on"):
        second = Vm(*boot, f"path={disk}{how}")
        status = second.finish(20)
        Tap.ok(status == 1 and disk.encode() in second.out and second.out.count(b"\n") == 1,
               f"a disk in use is refused{how}, and named", second.out)
    vm.kill()
    vm = Vm(*boot, f"path={disk},readonly=on")
    vm.until(rb"\bup\r", 60)
    second = Vm(*boot, f"path={disk},readonly=on")
    Tap.ok(second.until(rb"\bup\r", 60), "two may read the same disk", second.out)
    second.kill()
    third = Vm(*boot, f"path={disk}")
    Tap.ok(third.finish(20) == 1, "but none may write it meanwhile", third.out)
    vm.kill()
    vm = Vm(*boot, f"path={disk}")
    Tap.ok(vm.until(rb"\bup\r", 60), "a killed ring3 leaves no lock", vm.out)
    vm.kill()


def many():
    """Four disks, each with its own contents, in the order given."""
    disks = [fresh(f"many{n}.img", 8 << 20) for n in range(4)]
    for n, d in enumerate(disks):
        with open(d, "r+b") as f:
            f.write(b"disk %d\n" % n)
    args = [a for d in disks for a in ("--disk", f"path={d}")]
    vm = run_script("four disks", "for d in a b c d; do head -n 1 /dev/vd$d; done; for d in d a; do"
                    " yes $d | dd of=/dev/vd$d bs=1M seek=1 count=4 iflag=fullblock 2>/dev/null; done; sync\n", *args)
    Tap.ok(re.search(rb"disk 0\s+disk 1\s+disk 2\s+disk 3", vm.out), "in the order given", vm.out)
    good = True
    for n, d in enumerate(disks):
        with open(d, "rb") as f:
            f.seek(1 << 20)
            want = (b"a\n", None, None, b"d\n")[n]
            good = good and f.read(4 << 20) == (want * (2 << 20) if want else b"\0" * (4 << 20))
    Tap.ok(good, "and each has what was written to it")


drop_root()
for a in AIO if LONG else AIO[:1]:
    file_round_trip(a)
many()
raw_patterns()
discard()
readonly_and_lock()
Tap.done()
