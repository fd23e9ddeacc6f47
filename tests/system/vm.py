# SPDX-License-Identifier: Apache-2.0
"""What the system tests share: a running ring3, the default guest's files, TAP output."""
import atexit
import hashlib
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time

NOBODY = 65534
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MKCPIO = os.path.join(TOP, "tools/guest/mkcpio")
RING3 = os.environ.get("RING3", os.path.join(TOP, "build", "ring3"))
LONG = os.environ.get("R3_LONG") == "1"
XDG = os.environ.get("XDG_CACHE_HOME", "")
CACHE = os.path.join(XDG if XDG.startswith("/") else os.path.expanduser("~/.cache"), "ring3")
PROMPT = rb"ring3:\S*# "
# What a healthy guest never prints.
TROUBLE = re.compile(rb"(Call Trace|BUG:|Oops|general protection|segfault|traps: |WARNING: CPU|"
                     rb"soft lockup|rcu: INFO|Kernel panic|I/O error)")

WORK = tempfile.mkdtemp(prefix="ring3-test.")
atexit.register(shutil.rmtree, WORK, ignore_errors=True)


def work(name):
    return os.path.join(WORK, name)


def cache(name):
    return os.path.join(CACHE, name)


def drop_root(*files):
    """From root to an ordinary user: what the tests need is first put where that user can read it.

    Returns where the files are then."""
    global CACHE, RING3, MKCPIO
    if os.geteuid() != 0:
        return files
    here = tempfile.mkdtemp(prefix="ring3-test-in.")
    owner = os.getpid()
    os.chmod(here, 0o755)
    for name in os.listdir(CACHE):
        if re.match(r"(vmlinu|initrd)", name):
            try:
                os.link(cache(name), os.path.join(here, name))
            except OSError:
                shutil.copy(cache(name), here)
    RING3, MKCPIO = (shutil.copy(f, here) for f in (RING3, MKCPIO))
    files = [shutil.copy(f, here) for f in files]
    for folder in (here, WORK):
        os.chown(folder, NOBODY, NOBODY)
    CACHE = here
    os.environ.update(HOME=WORK, XDG_CACHE_HOME=WORK)
    os.symlink(here, work("ring3"))  # the default guest
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(here, ignore_errors=True))
    return files


class Tap:
    """Prints one line a check; done() ends the program."""
    count = 0
    failed = 0

    @classmethod
    def ok(cls, good, name, more=""):
        cls.count += 1
        cls.failed += not good
        print(f"{'ok' if good else 'not ok'} {cls.count} - {name}", flush=True)
        if not good and more:
            text = more.decode(errors="replace") if isinstance(more, bytes) else str(more)
            for line in text.splitlines()[-25:]:
                print("# " + line)
        return good

    @classmethod
    def skip(cls, name, why):
        cls.count += 1
        print(f"ok {cls.count} - {name} # SKIP {why}", flush=True)

    @classmethod
    def done(cls):
        print(f"1..{cls.count}", flush=True)
        sys.exit(1 if cls.failed else 0)


def sha(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        for chunk in iter(lambda: f.read(1 << 20), b""):
            h.update(chunk)
    return h.hexdigest()


def random_file():
    """1 MiB for the guest; make_file() turns it into a big file no two MiB of which are the same."""
    path = work("random")
    if not os.path.exists(path):
        with open(path, "wb") as f:
            f.write(os.urandom(1 << 20))
    return ("random", path, 0o644)


def make_file(path, mib=200):
    """Shell text: the guest writes about so many MiB to path. /dev/urandom is not what is tested."""
    return f"for i in $(seq {mib}); do echo part $i; cat /random; done >{path}"


def initrd(flavour, script=None, files=()):
    """The default guest's RAM disk with /ring3.sh and (name, host path, mode) files added."""
    out = work(f"initrd-{flavour}-{time.monotonic_ns()}")
    args = []
    if script is not None:
        path = out + ".sh"
        with open(path, "w", encoding="utf-8") as f:
            f.write(script)
        args.append(f"ring3.sh={path}:755")
    args += [f"{name}={path}:{mode:o}" for name, path, mode in files]
    subprocess.run([MKCPIO, out + ".cpio", *args], check=True)
    with open(out, "wb") as f:
        for part in (cache(f"initrd-{flavour}.img"), out + ".cpio"):
            with open(part, "rb") as p:
                shutil.copyfileobj(p, f)
    return out


class Vm:
    """One ring3 process on pipes, or on a terminal of its own; what it prints is kept in .out."""

    def __init__(self, *args, quiet=True, tty=False, **popen):
        argv = [RING3, "run", *args]
        if quiet and "--append" not in args:
            argv += ["--append", "quiet"]
        self.out = b""
        self.seen = 0
        self.slave = None
        if tty:
            self.input, self.slave = pty.openpty()
            self.output = self.input
            self.mode = termios.tcgetattr(self.slave)
            popen.update(stdin=self.slave, stdout=self.slave, stderr=self.slave)
        else:
            popen.update(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.proc = subprocess.Popen(argv, start_new_session=True, **popen)
        if not tty:
            self.input, self.output = self.proc.stdin.fileno(), self.proc.stdout.fileno()
        atexit.register(self.kill)

    def read(self, seconds):
        """False at the end of its output; a terminal's end is the end of the process."""
        ready, _, _ = select.select([self.output], [], [], max(min(seconds, 0.2) if self.slave else seconds, 0))
        if not ready:
            return self.slave is None or self.proc.poll() is None
        data = os.read(self.output, 1 << 16)
        self.out += data
        return bool(data)

    def terminal_restored(self):
        return termios.tcgetattr(self.slave) == self.mode

    def until(self, pattern, seconds, panicked=False):
        """The match of a pattern in what came since the last one, or None; at once when the guest panics."""
        end = time.monotonic() + seconds
        while True:
            m = re.compile(pattern).search(self.out, self.seen)
            if m is not None:
                self.seen = m.end()
                return m
            if not panicked and b"ring3: guest kernel panic" in self.out:
                return None
            if time.monotonic() > end or not self.read(end - time.monotonic()):
                return None

    def send(self, text):
        self.keys(text.encode() + b"\n")

    def keys(self, data):
        try:
            os.write(self.input, data)
        except OSError:
            pass

    def signal(self, number):
        self.proc.send_signal(number)

    def finish(self, seconds):
        """Reads to the end; the exit status, or "late" when it had to be killed."""
        end = time.monotonic() + seconds
        while self.read(end - time.monotonic()):
            if time.monotonic() > end:
                self.kill()
                return "late"
        try:
            return self.proc.wait(max(end - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            self.kill()
            return "late"

    def kill(self):
        if self.proc.poll() is None:
            try:
                os.killpg(self.proc.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.proc.wait()

    def trouble(self):
        m = TROUBLE.search(self.out)
        return m.group(0).decode() if m else ""


def run_script(name, script, *args, flavour="cloud", kernel=None, files=(), seconds=120, **more):
    """Boots, runs the script, and checks the usual: exit status 0, power-off, no trouble."""
    vm = Vm("--kernel", kernel or cache(f"vmlinuz-{flavour}"),
            "--initrd", initrd(flavour, script, files), *args, **more)
    status = vm.finish(seconds)
    Tap.ok(b"ring3: exit status 0" in vm.out and status == 0 and not vm.trouble(),
           name, vm.out + f"\n(ended with {status}; {vm.trouble()})".encode())
    return vm
