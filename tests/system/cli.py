#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Bad input: one line that names the thing, exit status 1, nothing left behind. And help, version."""
import os
import subprocess

from vm import RING3, Tap, WORK, cache, work

KERNEL = ["--kernel", cache("vmlinuz-cloud")]


def ring3(*args):
    return subprocess.run([RING3, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=30, check=False)


def refused(name, args, *words):
    before = sorted(os.listdir(WORK))
    r = ring3("run", *args)
    err = r.stderr.decode(errors="replace")
    good = (r.returncode == 1 and len(err.strip().splitlines()) == 1 and all(w in err for w in words)
            and sorted(os.listdir(WORK)) == before)
    Tap.ok(good, name, f"status {r.returncode}: {err}")


def make(name, data):
    with open(work(name), "wb") as f:
        f.write(data)
    return work(name)


with open(cache("vmlinuz-cloud"), "rb") as image:
    whole = image.read()
cut = make("cut", whole[:len(whole) // 3])
head = make("head", whole[:600])
text = make("text", b"#!/bin/sh\necho no kernel\n" * 100)
empty = make("empty", b"")
odd = make("odd", b"x" * 100)
secret = make("secret", whole)
os.chmod(secret, 0)

refused("no such kernel", ["--kernel", work("none")], "none")
refused("a truncated kernel", ["--kernel", cut], "cut")
refused("a kernel cut in its header", ["--kernel", head], "head")
refused("not a kernel", ["--kernel", text], "text")
refused("an empty kernel", ["--kernel", empty], "empty")
refused("a folder as kernel", ["--kernel", WORK], WORK)
if os.getuid() != 0:
    refused("an unreadable kernel", ["--kernel", secret], "secret")
else:
    Tap.skip("an unreadable kernel", "root reads everything")
refused("no such initrd", [*KERNEL, "--initrd", work("none")], "none")
refused("no such disk", [*KERNEL, "--disk", f"path={work('none')}"], "none")
refused("an empty disk", [*KERNEL, "--disk", f"path={empty}"], "empty")
refused("a disk that is no multiple of a sector", [*KERNEL, "--disk", f"path={odd}"], "odd")
refused("a folder as disk", [*KERNEL, "--disk", f"path={WORK}"], WORK)
refused("memory 0", [*KERNEL, "--memory", "0"], "memory")
refused("memory 1K", [*KERNEL, "--memory", "1K"], "memory")
refused("memory 99999T", [*KERNEL, "--memory", "99999T"], "memory")
refused("memory, not a size", [*KERNEL, "--memory", "lots"], "memory", "lots")
refused("no CPU", [*KERNEL, "--cpus", "0"], "cpus")
refused("a million CPUs", [*KERNEL, "--cpus", "1000000"], "cpus")
refused("an unknown option", [*KERNEL, "--memroy", "1G"], "--memroy", "--memory")
refused("an unknown key", [*KERNEL, "--disk", f"path={odd},raedonly=on"], "raedonly", "readonly")
refused("an unknown engine", [*KERNEL, "--engine", "qemu"], "qemu", "dbt")
refused("a bad forward", [*KERNEL, "--net", "user,forward=tcp:99999:22"], "forward")
refused("an option without its value", ["--kernel"], "--kernel")
refused("an argument too many", [*KERNEL, "vm1"], "vm1")

r = ring3("--version")
Tap.ok(r.returncode == 0 and r.stdout.startswith(b"ring3 "), "--version", r.stdout)
r = ring3("--help")
Tap.ok(r.returncode == 0 and all(w in r.stdout for w in (b"run", b"doctor", b"image")), "--help", r.stdout)
r = ring3("nonsense")
Tap.ok(r.returncode == 1 and b"nonsense" in r.stderr, "an unknown command", r.stderr)
r = ring3("doctor")
Tap.ok(r.returncode in (0, 1) and b"FSGSBASE" in r.stdout, "doctor", r.stdout)
Tap.done()
