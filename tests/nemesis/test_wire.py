"""The bad wire, with pipes in place of devices; and, as root, on hosts of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.running import eventually
from tests.nemesis.network import Network, why_not
from tests.nemesis.wire import Link, Wire

ECHO = """
import socket, sys
while True:
    with socket.create_server(("", 7001)) as server:
        one, _ = server.accept()
        while data := one.recv(100): one.sendall(data)
"""
ASK = """
import socket, sys
one = socket.create_connection((sys.argv[1], 7001))
for line in sys.stdin:
    one.sendall(line.encode()); print(one.recv(100).decode(), end="", flush=True)
"""


def packet(source: int, target: int, text: bytes = b"") -> bytes:
    addresses = bytes([10, 97, 1, source, 10, 97, 1, target])
    return b"\x45" + bytes(11) + addresses + text


class Ends(Wire):
    """Hosts 1 and 2, whose ends of the wire are sockets."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts: dict[int, socket.socket] = {}
        for host in (1, 2):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            ours.setblocking(False)
            theirs.setblocking(False)
            self.hosts[host] = theirs
            self._devices[host] = ours.detach()
            self._hosts[self._devices[host]] = host

    def carry(self, source: int, data: bytes) -> None:
        self.hosts[source].send(data)
        self.take(self._devices[source])

    def arrived(self, host: int) -> list[bytes]:
        self.deliver()
        found = []
        while True:
            try:
                found.append(self.hosts[host].recv(1000))
            except BlockingIOError:
                return found


def test_packets_arrive_only_over_a_link() -> None:
    wire = Ends()
    wire.carry(1, packet(1, 2))
    assert wire.arrived(2) == []
    wire.obey({"links": [[1, 2, 0.0, 0.0, 0.0]]})
    wire.carry(1, packet(1, 2, b"a"))
    wire.carry(2, packet(2, 1, b"b"))
    assert wire.arrived(2) == [packet(1, 2, b"a")]
    assert wire.arrived(1) == []


def test_lost_packets_and_what_is_no_packet() -> None:
    wire = Ends()
    wire.obey({"links": [Link(loss=1.0).as_list(1, 2)]})
    wire.carry(1, packet(1, 2))
    assert wire.arrived(2) == []
    wire.obey({"links": [Link().as_list(1, 2)]})
    wire.carry(1, b"short")
    wire.carry(1, b"\x60" + bytes(50))
    assert wire.arrived(2) == []


def test_a_delayed_packet_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    wire = Ends()
    wire.obey({"links": [Link(delay_ms=50.0).as_list(1, 2)]})
    wire.carry(1, packet(1, 2))
    assert wire.deliver() == pytest.approx(0.05)
    assert wire.arrived(2) == []
    now += 0.06
    assert len(wire.arrived(2)) == 1


@pytest.mark.cluster
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "possible")
def test_hosts_hear_one_another_until_they_are_cut_off(tmp_path: Path) -> None:
    with Network(tmp_path) as network:
        for host in (1, 2):
            network.add(host)
        echo = subprocess.Popen([*network.prefix(1), sys.executable, "-c", ECHO])
        try:
            _talk(network)
        finally:
            echo.kill()
            echo.wait()
    assert not Path(f"/run/netns/{network.namespace(1)}").exists()


def _talk(network: Network) -> None:
    def ask() -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", ASK, network.address(1)]
        pipe = subprocess.PIPE
        return subprocess.Popen([*network.prefix(2), *words], stdin=pipe, stdout=pipe)

    def answered() -> subprocess.Popen[bytes] | None:
        asking = ask()
        assert asking.stdin is not None and asking.stdout is not None
        asking.stdin.write(b"first\n")
        asking.stdin.flush()
        if asking.stdout.readline() == b"first\n":
            return asking
        asking.wait()
        return None

    asking = eventually(answered, "host 1 answers")
    assert asking.stdin is not None and asking.stdout is not None
    network.cut([1], [2])
    asking.stdin.write(b"second\n")
    asking.stdin.flush()
    os.set_blocking(asking.stdout.fileno(), False)
    before = _retransmissions(network)
    eventually(lambda: _retransmissions(network) > before, "it is sent again in vain")
    assert asking.stdout.read() is None
    network.set_links({(1, 2): Link(5.0), (2, 1): Link(5.0)})
    eventually(lambda: asking.stdout and asking.stdout.read() == b"second\n", "it arrives")
    network.heal()
    asking.stdin.write(b"third\n")
    asking.stdin.flush()
    eventually(lambda: asking.stdout and asking.stdout.read() == b"third\n", "the cable works")
    asking.stdin.close()
    asking.wait()


def _retransmissions(network: Network) -> int:
    """Of host 2, from its kernel's counters."""
    table = subprocess.run(
        [*network.prefix(2), "cat", "/proc/net/snmp"], capture_output=True, text=True, check=True
    ).stdout
    names, values = (line.split() for line in table.splitlines() if line.startswith("Tcp:"))
    return int(dict(zip(names, values, strict=True))["RetransSegs"])
