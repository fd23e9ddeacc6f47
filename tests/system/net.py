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
from concurrent.futures import ThreadPoolExecutor

from vm import Tap, Vm, cache, drop_root, initrd, make_file, random_file, run_script, work

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
        self.seconds = 0.0
        self.start()

    def run(self):
        conn, _ = self.listener.accept()
        start = time.monotonic()
        if self.data is not None:
            conn.sendall(self.data)
            conn.shutdown(socket.SHUT_WR)
        while chunk := conn.recv(1 << 20):
            self.got.update(chunk)
            self.count += len(chunk)
        self.seconds = time.monotonic() - start
        conn.close()


def transfers():
    data = os.urandom(MB << 20)
    down, up = Server(data), Server()
    script = f"""
ip=$(ifconfig eth0 | sed -n 's/.*inet addr:\\([0-9.]*\\).*/\\1/p'); echo addr $ip $(grep -c nameserver /etc/resolv.conf)
nc 10.0.2.2 {down.port} </dev/null >/tmp/f
echo down $(sha256sum </tmp/f)
{make_file("/tmp/f", MB)}
echo up $(sha256sum </tmp/f)
nc 10.0.2.2 {up.port} </tmp/f
"""
    vm = run_script("TCP both ways", script, "--net", "user", "--memory", "1G", seconds=300,
                    files=[random_file()])
    up.join(10)
    print(f"# to the guest {MB / max(down.seconds, 1e-9):.0f} MB/s, from it {MB / max(up.seconds, 1e-9):.0f} MB/s")
    Tap.ok(re.search(rb"addr 10\.0\.2\.15 [1-9]", vm.out), "DHCP gives an address and a resolver", vm.out)
    m = re.search(rb"down ([0-9a-f]{64})", vm.out)
    Tap.ok(m and m.group(1).decode() == hashlib.sha256(data).hexdigest(), f"{MB} MB arrive in the guest", vm.out)
    m = re.search(rb"up ([0-9a-f]{64})", vm.out)
    Tap.ok(m and up.count >= MB << 20 and m.group(1).decode() == up.got.hexdigest(),
           f"{MB} MB arrive on the host", f"{up.count} bytes")


UDP_ECHO = r"""
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
int main(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(7001) };
	socklen_t n = sizeof(a);
	char buf[2000];
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	if (bind(s, (struct sockaddr *)&a, n) < 0)
		return 1;
	for (;;) {
		ssize_t len = recvfrom(s, buf, sizeof(buf), 0, (struct sockaddr *)&a, &n);
		sendto(s, buf, len, 0, (struct sockaddr *)&a, n);
	}
}
"""


def udp_echo():
    """A program for the guest that sends every datagram back: busybox has none."""
    source, binary = work("udp.c"), work("udp")
    with open(source, "w", encoding="utf-8") as f:
        f.write(UDP_ECHO)
    subprocess.run(["gcc", "-O2", "-static", "-o", binary, source], check=True)
    return ("udp", binary, 0o755)


def datagrams(port):
    """How many of 20 datagrams come back as they were sent; some may be lost."""
    good = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(1)
        for n in range(20):
            data = os.urandom(1 + 70 * n)
            s.sendto(data, ("127.0.0.1", port))
            try:
                good += s.recv(2000) == data
            except OSError:
                pass
    return good


def free_ports(n):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def get(port, name):
    try:
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        c.request("GET", name)
        return c.getresponse().read()
    except (OSError, http.client.HTTPException) as e:
        print(f"# {e}")
        return b""


def forward():
    """Two services behind one --net: the guest's web server, and a program that takes what it is sent."""
    web, raw, udp = free_ports(3)
    data = os.urandom(20 << 20)
    vm = Vm("--kernel", cache("vmlinuz-cloud"), "--net",
            f"user,forward=tcp:{web}:80,forward=tcp:127.0.0.1:{raw}:7000,forward=udp:{udp}:7001", "--initrd",
            initrd("cloud", "httpd -h /bin -p 80; nc -l -p 7000 >/tmp/raw & /udp & sleep 0.5;"
                            " echo sum $(sha256sum </bin/busybox); wait %1; echo raw $(sha256sum </tmp/raw);"
                            " sleep 60\n", [udp_echo()]))
    m = vm.until(rb"sum ([0-9a-f]{64})", 60)
    want = m.group(1).decode() if m else ""
    bodies = [get(web, "/busybox") for _ in range(3)]
    Tap.ok(all(hashlib.sha256(b).hexdigest() == want for b in bodies), "a forwarded port serves the guest's file, thrice",
           f"{[len(b) for b in bodies]} bytes")
    with ThreadPoolExecutor(8) as pool:
        bodies = list(pool.map(lambda _: get(web, "/busybox"), range(8)))
    Tap.ok(all(hashlib.sha256(b).hexdigest() == want for b in bodies), "and eight times at once",
           f"{[len(b) for b in bodies]} bytes")
    with socket.create_connection(("127.0.0.1", raw), timeout=60) as s:
        s.sendall(data)
    m = vm.until(rb"raw ([0-9a-f]{64})", 60)
    Tap.ok(m and m.group(1).decode() == hashlib.sha256(data).hexdigest(), "20 MB go in through another", vm.out)
    count = datagrams(udp)
    Tap.ok(count >= 15, f"a UDP port is forwarded: {count} of 20 datagrams come back")
    vm.kill()
    try:
        socket.create_connection(("127.0.0.1", web), timeout=2).close()
        closed = False
    except OSError:
        closed = True
    Tap.ok(closed, "the ports are closed afterwards")


def dns_inside():
    """Runs in its own user, network and mount namespace."""
    drop_root()
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
dns()
drop_root()
transfers()
forward()
Tap.done()
