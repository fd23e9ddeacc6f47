#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Boots every stock kernel on every engine by every entry, as an ordinary user; 32-bit programs."""
import os
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
PROGRAM32 = os.path.join(os.path.dirname(os.path.abspath(__file__)), "program32.c")
RESULT32 = ["arithmetic 2726cb9d", "wide fc943c6b", "old ways 65d21563", "entries 00002710", "signals 0099d350",
            "thread area 66666666", "children 9bdf14a2", "done"]
INTERP = KERNELS if LONG else ("cloud bzImage",)

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
    """32-bit user code under the 64-bit kernel; the host's kernel says what it must print, if it runs such code."""
    binary = work("p32")
    made = subprocess.run(["gcc", "-m32", "-O2", "-std=gnu17", "-nostdlib", "-static", "-ffreestanding", "-fno-pic",
                           "-no-pie", "-fno-stack-protector", "-fcf-protection=none", "-fno-omit-frame-pointer",
                           "-msse2", "-mfpmath=sse", "-o", binary, PROGRAM32],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if not Tap.ok(made.returncode == 0, "a 32-bit program is built", made.stdout):
        return
    want = RESULT32
    try:
        want = subprocess.run([binary], stdout=subprocess.PIPE, check=True, timeout=60).stdout.decode().splitlines()
    except (OSError, subprocess.SubprocessError) as e:
        print(f"# the host runs no 32-bit programs ({e})")
    Tap.ok(want == RESULT32, "the host's result is the known one", want)
    for engine in ("dbt", "interp") if LONG else ("dbt",):
        for flavour in ("amd64", "cloud"):
            vm = run_script(f"{engine} runs a 32-bit program, {flavour} kernel", "/p32\n", "--engine", engine,
                            flavour=flavour, files=[("p32", binary, 0o755)], seconds=300)
            got = [line for line in vm.out.decode(errors="replace").replace("\r", "").split("\n") if line in want]
            Tap.ok(got == want, "and its results are right", f"want {want}, got {got}\n" + vm.out.decode(errors="replace"))


drop_root()
kernels()
program32()
Tap.done()
