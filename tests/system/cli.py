#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Bad input: one line that names the thing, exit status 1, nothing left behind. And help, version."""
import gzip
import os
import socket
import struct
import subprocess

import vm
from vm import Tap, WORK, cache, drop_root, work

OUT, TAKEN = work("i"), work("taken")


def image_build():
    """Before the program is copied elsewhere: it looks for its script beside the source tree."""
    with open(TAKEN, "wb") as f:
        f.write(b"a disk")
    for args, words in ((("biuld",), ("biuld", "build")),
                        (("build", "debian-99", "--output", OUT), ("debian-99", "debian-12")),
                        (("build", "debian-12"), ("--output",)),
                        (("build", "debian-12", "--output", OUT, "--size", "1M"), ("--size", "1M")),
                        (("build", "debian-12", "--output", OUT, "--size", "big"), ("--size", "big")),
                        (("build", "debian-12", "--output", "/no/such/folder/i"), ("/no/such/folder",)),
                        (("build", "debian-12", "--output", TAKEN), (TAKEN, "exists"))):
        r = ring3("image", *args)
        err = r.stderr.decode()
        Tap.ok(r.returncode == 1 and err.count("\n") == 1 and all(w in err for w in words) and not os.path.exists(OUT),
               "image " + " ".join(os.path.basename(a) for a in args), f"{r.returncode}: {err}{r.stdout.decode()}")
    os.unlink(TAKEN)


def ring3(*args):
    argv = [vm.RING3, *args]
    try:
        return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=10, check=False)
    except subprocess.TimeoutExpired as e:  # it has started instead
        return subprocess.CompletedProcess(argv, "late", e.stdout or b"", e.stderr or b"")


def refused(name, args, *words):
    """Exit status 1, nothing on stdout, one line on stderr with these words, nothing made or left."""
    before = sorted(os.listdir(WORK))
    r = ring3("run", *args)
    err = r.stderr.decode(errors="replace")
    good = (r.returncode == 1 and not r.stdout and err.startswith("ring3: ") and err.endswith("\n") and
            err.count("\n") == 1 and len(err) < 300 and all(w in err for w in words) and
            sorted(os.listdir(WORK)) == before)
    Tap.ok(good, name, f"status {r.returncode}: {err}")
    if os.environ.get("SHOW"):
        print("# " + err, end="")


def make(name, data):
    with open(work(name), "wb") as f:
        f.write(data)
    return work(name)


image_build()
drop_root()
KERNEL = ["--kernel", cache("vmlinuz-cloud")]
with open(cache("vmlinuz-cloud"), "rb") as image:
    whole = image.read()
cut = make("cut", whole[:len(whole) // 3])
head = make("head", whole[:600])
text = make("text", b"#!/bin/sh\necho no kernel\n" * 100)
empty = make("empty", b"")
odd = make("odd", b"x" * 1000)
secret = make("secret", whole)
os.chmod(secret, 0)
packed = make("packed.gz", gzip.compress(whole[:1 << 20]))
with open(cache("vmlinux-cloud.elf"), "rb") as image:
    elf = image.read(1 << 20)
elf_cut = make("elf-cut", elf)
elf_head = make("elf-head", elf[:40])
elf_arm = make("elf-arm", elf[:18] + b"\xb7\0" + elf[20:])
elf_32 = make("elf-32", elf[:4] + b"\1" + elf[5:])
elf_wild = make("elf-wild", elf[:32] + b"\xff" * 8 + elf[40:])
# the header of an arm64 Image: two instructions, text offset, size, flags, magic
arm64 = make("arm64", struct.pack("<IIQQQQQQ4sI", 0x91005A4D, 0x14000000, 0, 1 << 20, 10, 0, 0, 0, b"ARM\x64", 0) +
             b"\0" * 4096)
old = make("old", whole[:0x206] + b"\1\2" + whole[0x208:4096])
huge_setup = make("huge-setup", whole[:0x1f1] + b"\xff" + whole[0x1f2:8192])
fifo = work("fifo")
os.mkfifo(fifo)
small = make("small", b"x" * 511)
good_disk = make("good", b"\0" * (1 << 20))
secret_disk = make("secret-disk", b"\0" * (1 << 20))
os.chmod(secret_disk, 0)
cache_before = sorted(os.listdir(cache("")))

refused("no such kernel", ["--kernel", work("none")], "none")
refused("a truncated kernel", ["--kernel", cut], "cut")
refused("a kernel cut in its header", ["--kernel", head], "head")
refused("not a kernel", ["--kernel", text], "text")
refused("an empty kernel", ["--kernel", empty], "empty")
refused("a folder as kernel", ["--kernel", WORK], WORK)
if os.getuid() != 0:
    refused("an unreadable kernel", ["--kernel", secret], "secret", "ermission")
    refused("an unreadable initrd", [*KERNEL, "--initrd", secret], "secret", "ermission")
    refused("an unreadable disk", [*KERNEL, "--disk", f"path={secret_disk}"], "secret-disk", "ermission")
else:
    Tap.skip("unreadable files", "root reads everything")
refused("a gzip file", ["--kernel", packed], "packed.gz")
refused("an arm64 kernel", ["--kernel", arm64], "arm64")
refused("an ELF file cut short", ["--kernel", elf_cut], "elf-cut", "truncated")
refused("an ELF file cut in its header", ["--kernel", elf_head], "elf-head")
refused("an ELF file for arm64", ["--kernel", elf_arm], "elf-arm")
refused("a 32-bit ELF file", ["--kernel", elf_32], "elf-32")
refused("an ELF file with wild offsets", ["--kernel", elf_wild], "elf-wild", "truncated")
refused("an old boot protocol", ["--kernel", old], "old")
refused("a wild number of setup sectors", ["--kernel", huge_setup], "huge-setup")
refused("a device as kernel", ["--kernel", "/dev/null"], "/dev/null")
refused("a pipe as kernel", ["--kernel", fifo], "fifo")
refused("an empty kernel name", ["--kernel", ""], "kernel")
refused("a name without a folder", ["--kernel", "/no/such/folder/vmlinuz"], "/no/such/folder/vmlinuz")
refused("no such initrd", [*KERNEL, "--initrd", work("none")], "none")
refused("a folder as initrd", [*KERNEL, "--initrd", WORK], WORK)
refused("no such disk", [*KERNEL, "--disk", f"path={work('none')}"], "none")
refused("an empty disk", [*KERNEL, "--disk", f"path={empty}"], "empty")
refused("a disk that is no multiple of a sector", [*KERNEL, "--disk", f"path={odd}"], "odd", "1000", "truncate")
refused("a disk smaller than a sector", [*KERNEL, "--disk", f"path={small}"], "small")
refused("a folder as disk", [*KERNEL, "--disk", f"path={WORK}"], WORK)
refused("a pipe as disk", [*KERNEL, "--disk", f"path={fifo}"], "fifo")
refused("a character device as disk", [*KERNEL, "--disk", "path=/dev/zero"], "/dev/zero")
refused("a disk without its path", [*KERNEL, "--disk", "readonly=on"], "path")
refused("a disk with an empty path", [*KERNEL, "--disk", "path="], "path")
refused("a disk with two paths", [*KERNEL, "--disk", f"path={good_disk},path={good_disk}"], "path")
refused("the same disk twice", [*KERNEL, "--disk", f"path={good_disk}", "--disk", f"path={good_disk}"], "good")
refused("a key without its value", [*KERNEL, "--disk", f"path={good_disk},readonly="], "readonly")
refused("a switch that is neither", [*KERNEL, "--disk", f"path={good_disk},readonly=maybe"], "readonly", "maybe")
refused("an unknown way of I/O", [*KERNEL, "--disk", f"path={good_disk},aio=fast"], "aio", "fast", "io_uring")
refused("a serial that is too long", [*KERNEL, "--disk", f"path={good_disk},serial={'x' * 21}"], "serial")
refused("nine disks", [*KERNEL, *["--disk", f"path={good_disk}"] * 9], "disk")
refused("memory 0", [*KERNEL, "--memory", "0"], "memory")
refused("memory 1K", [*KERNEL, "--memory", "1K"], "memory")
for bad in ("-1", "1.5G", "1G1", "0x", "", "15M", "18446744073709551616", "17592186044416M", "1000000000000000000000T"):
    refused(f"memory '{bad}'", [*KERNEL, "--memory", bad], "memory")
refused("memory 99999T", [*KERNEL, "--memory", "99999T"], "memory")
refused("memory, not a size", [*KERNEL, "--memory", "lots"], "memory", "lots")
refused("no CPU", [*KERNEL, "--cpus", "0"], "cpus")
refused("a million CPUs", [*KERNEL, "--cpus", "1000000"], "cpus")
refused("an unknown option", [*KERNEL, "--memroy", "1G"], "--memroy", "--memory")
refused("an unknown key", [*KERNEL, "--disk", f"path={odd},raedonly=on"], "raedonly", "readonly")
refused("an unknown engine", [*KERNEL, "--engine", "qemu"], "qemu", "dbt")
refused("an engine that is none", [*KERNEL, "--engine", ""], "engine")
for bad in ("99999:22", "tcp:99999:22", "tcp:22", "tcp:0:22", "tcp:2222:0", "tcp:2222:99999", "sctp:2222:22", "tcp::",
            "tcp:a.b.c:2222:22", "tcp:2222:22:22:22:22", "tcp:-1:22", ""):
    refused(f"forward '{bad}'", [*KERNEL, "--net", f"user,forward={bad}"], "forward")
refused("an unknown kind of network", [*KERNEL, "--net", "bridge"], "bridge", "user")
refused("an unknown key of --net", [*KERNEL, "--net", "user,forwrad=tcp:2222:22"], "forwrad", "forward")
for bad in ("52:54:00", "52:54:00:12:34:5g", "01:00:5e:00:00:01", "52-54-00-12-34-56-78", "00:00:00:00:00:00"):
    refused(f"mac '{bad}'", [*KERNEL, "--net", f"user,mac={bad}"], "mac")
refused("an mtu that is too large", [*KERNEL, "--net", "user,mtu=70000"], "mtu")
refused("an mtu that is no number", [*KERNEL, "--net", "user,mtu=big"], "mtu")
with socket.create_server(("127.0.0.1", 0)) as taken:
    port = taken.getsockname()[1]
    refused("a forward from a port in use", [*KERNEL, "--net", f"user,forward=tcp:127.0.0.1:{port}:22"], str(port))
refused("an unknown console", [*KERNEL, "--console", "vga"], "vga", "serial")
refused("an unknown --serial", [*KERNEL, "--serial", "printer"], "printer")
refused("a --serial file in no folder", [*KERNEL, "--serial", f"file:{work('no/such/file')}"], "no/such/file")
refused("cpus, not a number", [*KERNEL, "--cpus", "two"], "cpus", "two")
refused("a command line that is too long", [*KERNEL, "--append", "x" * 70000], "append")
refused("a single dash", [*KERNEL, "-m", "1G"], "-m")
refused("an empty argument", [*KERNEL, ""], "")
refused("an option without its value", ["--kernel"], "--kernel")
refused("an argument too many", [*KERNEL, "vm1"], "vm1")

Tap.ok(sorted(os.listdir(cache(""))) == cache_before, "nothing appears in the cache")
r = ring3("run", "--help", "--disk", "path=none")
Tap.ok(r.returncode in (0, 1), "--help among others", r.stderr)
r = ring3("--version")
Tap.ok(r.returncode == 0 and r.stdout.startswith(b"ring3 "), "--version", r.stdout)
r = ring3("--help")
Tap.ok(r.returncode == 0 and all(w in r.stdout for w in (b"run", b"doctor", b"image")), "--help", r.stdout)
r = ring3("nonsense")
Tap.ok(r.returncode == 1 and b"nonsense" in r.stderr and r.stderr.count(b"\n") == 1, "an unknown command", r.stderr)
r = ring3("runn")
Tap.ok(r.returncode == 1 and b"'run'" in r.stderr and r.stderr.count(b"\n") == 1, "a mistyped command", r.stderr)
r = ring3("doctor")
Tap.ok(r.returncode in (0, 1) and b"FSGSBASE" in r.stdout, "doctor", r.stdout)
Tap.done()
