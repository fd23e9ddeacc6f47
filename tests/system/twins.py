#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Virtual machines side by side: what one does with privileged and sensitive instructions, no other sees.

One computes a running checksum that the host computes too; the others load their own values into control,
debug, model-specific and table registers, ports, flags and vector registers and read them back."""
import os
import re
import subprocess

from vm import LONG, Tap, Vm, drop_root

TWIN, TWIN_HOST = os.environ["TWIN"], os.environ["TWIN_HOST"]
SUM = {"dbt": 40000000 if LONG else 15000000, "interp": 2000000 if LONG else 600000}


def start(engine, append):
    vm = Vm("--kernel", kernel, "--memory", "64M", "--no-reboot", "--engine", engine, "--append", append)
    if not vm.until(rb"running\n", 60):
        Tap.ok(False, f"{append} starts under {engine}", vm.out)
        Tap.done()
    return vm


def together(sum_engine, *engines):
    """The checksum under one engine while sensitive guests run under others."""
    rounds = SUM[sum_engine]
    want = subprocess.run([host, str(rounds)], stdout=subprocess.PIPE, check=True).stdout.strip()
    busy = [start(e, f"id={n + 1}") for n, e in enumerate(engines)]
    vm = start(sum_engine, f"sum={rounds}")
    status = vm.finish(240)
    for b in busy:
        b.send("")
    Tap.ok(status == 0 and want in vm.out, f"the checksum under {sum_engine} beside {', '.join(engines)}", vm.out)
    for n, (e, b) in enumerate(zip(engines, busy)):
        status = b.finish(60)
        m = re.search(rb"id %d rounds (\d+) checks (\d+) failures 0\n" % (n + 1), b.out)
        Tap.ok(status == 0 and m is not None, f"id {n + 1} under {e} reads back its own" +
               (f": {int(m.group(1))} rounds, {int(m.group(2))} checks" if m else ""), b.out)
        Tap.ok(m is not None and int(m.group(1)) >= 50, "and has run meanwhile", b.out)


kernel, host = drop_root(TWIN, TWIN_HOST)
together("dbt", "dbt")
together("dbt", "dbt", "dbt", "interp")
together("interp", "dbt", "interp")
Tap.done()
