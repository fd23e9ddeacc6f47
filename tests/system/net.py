#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""User networking: DHCP, TCP both ways with checksums, port forwarding, DNS in a namespace of its own."""
import hashlib
import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import time

from vm import Tap, Vm, cache, initrd, make_file, random_file, run_script

MB = 200
DNS = r"""
import socket, struct, subprocess, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server.bind(("127.0.0.1", 53))
if not __import__("os").fork():
    while True:
        query, peer = server.recvfrom(512)
        answer = query[:2] + b"\x81\x80" + query[4:6] + b"\0\1\0\0\0\0" + query[12:]
        name_end = query.index(b"\0", 12) + 5
        kind = struct.unpack(">H", query[name_end - 4:name_end - 2])[0]
        if kind == 1:
            answer = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:name_end]
            answer += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([192, 0, 2, 77])
        else:
            answer = query[:2] + b"\x81\x80\0\1\0\0\0\0\0\0" + query[12:name_end]
        server.sendto(answer, peer)
"""


class Server(threading.Thread):
    """One TCP connection: sends what it is given, or reads to the end."""

    def __init__(self, data=None):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.data = data
        self.got = hashlib.sha256()
        self.count = 0
        self.start()

    def run(self):
        conn, _ = self.listener.accept()
        if self.data is not None:
            conn.sendall(self.data)
            conn.shutdown(socket.SHUT_WR)
        while chunk := conn.recv(1 << 20):
            self.got.update(chunk)
            self.count += len(chunk)
        conn.close()


def transfers():
    data = os.urandom(1 << 20) * MB
    down, up = Server(data), Server()
    script = f"""
ip=$(ifconfig eth0 | sed -n 's/.*inet addr:\\([0-9.]*\\).*/\\1/p'); echo addr $ip $(grep -c nameserver /etc/resolv.conf)
echo down $(nc 10.0.2.2 {down.port} </dev/null | sha256sum)
{make_file("/tmp/f", MB)}
echo up $(sha256sum </tmp/f)
nc 10.0.2.2 {up.port} </tmp/f
"""
    start = time.monotonic()
    vm = run_script("TCP both ways", script, "--net", "user", "--memory", "1G", seconds=300,
                    files=[random_file()])
    up.join(10)
    print(f"# {2 * MB} MB in {time.monotonic() - start:.1f} s with boot")
    Tap.ok(re.search(rb"addr 10\.0\.2\.15 [1-9]", vm.out), "DHCP gives an address and a resolver", vm.out)
    m = re.search(rb"down ([0-9a-f]{64})", vm.out)
    Tap.ok(m and m.group(1).decode() == hashlib.sha256(data).hexdigest(), f"{MB} MB arrive in the guest", vm.out)
    m = re.search(rb"up ([0-9a-f]{64})", vm.out)
    Tap.ok(m and up.count >= MB << 20 and m.group(1).decode() == up.got.hexdigest(),
           f"{MB} MB arrive on the host", f"{up.count} bytes")


def forward():
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    vm = Vm("--kernel", cache("vmlinuz-cloud"), "--net", f"user,forward=tcp:{port}:80", "--initrd",
            initrd("cloud", "httpd -h /bin -p 80; echo sum $(sha256sum </bin/busybox); sleep 60\n"))
    m = vm.until(rb"sum ([0-9a-f]{64})", 60)
    body = b""
    try:
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        c.request("GET", "/busybox")
        body = c.getresponse().read()
    except OSError as e:
        print(f"# {e}")
    vm.kill()
    Tap.ok(m and hashlib.sha256(body).hexdigest() == m.group(1).decode(), "a forwarded port serves the guest's file",
           f"{len(body)} bytes")


def dns_inside():
    """Runs in its own user, network and mount namespace."""
    vm = run_script("a name is resolved", "nslookup host.ring3.test && echo found $(nslookup host.ring3.test | grep -c 192.0.2.77)\n",
                    "--net", "user", seconds=90)
    Tap.ok(re.search(rb"found [1-9]", vm.out), "by the resolver of the test's own namespace", vm.out)
    Tap.done()


def dns():
    outer = ["unshare", "-nm"] if os.getuid() == 0 else ["unshare", "-Urnm"]
    if subprocess.run([*outer, "true"], check=False, stderr=subprocess.DEVNULL).returncode != 0:
        Tap.skip("DNS", "this host grants no network namespace")
        return
    inner = f"""
mount -t tmpfs none /mnt && echo nameserver 127.0.0.1 >/mnt/resolv.conf || exit 9
mount --bind /mnt/resolv.conf $(readlink -f /etc/resolv.conf) || exit 9
{sys.executable} -c "$DNS_SERVER" && {sys.executable} {os.path.abspath(__file__)} --dns
"""
    done = subprocess.run([*outer, "--kill-child", "-pf", "sh", "-c", inner], check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=dict(os.environ, DNS_SERVER=DNS), timeout=150)
    Tap.ok(done.returncode == 0, "DNS against a resolver of the test's own", done.stdout)


if sys.argv[1:] == ["--dns"]:
    dns_inside()
transfers()
forward()
dns()
Tap.done()
