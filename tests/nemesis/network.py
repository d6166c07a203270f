"""Hosts on one machine: a network namespace for each server, joined by a bridge. Root and Linux.

Host N of a network has the address 10.97.x.N and its own loopback; the machine itself, where the
clients of the tests are, is 10.97.x.254. Two hosts talk by a cable (a veth pair on the bridge),
until ``set_links`` sends what goes from one to the other by a bad wire (``wire.py``): slow, lossy,
or cut. Only the hosts' own routes change for that, so established connections notice what they
would notice on a real network: silence. The machine's clients reach every host at all times, which
is what makes a cut-off leader interesting.

Nothing outside is touched: no packet is forwarded, and names, addresses and devices carry the
number of the network. A network whose process has died without removing it is removed by the next
one.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.nemesis.wire import DEVICE, Link

ROOT = Path(__file__).resolve().parents[2]
NETWORK = "10.97"
MACHINE = 254  # the last byte of the machine's own address in each network
_NAME = re.compile(r"rayft-(?P<owner>\d+)-(?P<subnet>\d+)-(?P<host>\d+)$")

#: A link on which nothing arrives.
CUT = Link(loss=1.0)


def why_not() -> str:
    """Why this machine cannot have networks of hosts; empty if it can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are a feature of Linux"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "needs the command ip (iproute2)"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    name = f"rayft-{os.getpid()}-0-0"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode:
        return f"cannot make a network namespace: {tried.stderr.strip()}"
    _ip("netns", "del", name)
    return ""


class Network:
    """A bridge, hosts on it, and the wire; a context manager."""

    def __init__(self, directory: Path) -> None:
        """``directory``: where the wire's process runs, so that it can be found."""
        remove_orphans()
        self.subnet = _free_subnet()
        self._bridge = f"rayft{self.subnet}"
        self._hosts: list[int] = []
        self._by_wire: set[tuple[int, int]] = set()
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self.address(MACHINE)}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        self._wire = subprocess.Popen(
            [sys.executable, "-m", "tests.nemesis.wire"],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def address(self, host: int) -> str:
        return f"{NETWORK}.{self.subnet}.{host}"

    def namespace(self, host: int) -> str:
        return f"rayft-{os.getpid()}-{self.subnet}-{host}"

    def prefix(self, host: int) -> list[str]:
        """What to put before a command so that it runs on a host."""
        return ["ip", "netns", "exec", self.namespace(host)]

    def add(self, host: int) -> str:
        """A new host, with no process yet; its address."""
        assert 1 <= host < MACHINE and host not in self._hosts, host
        there, cable = self.namespace(host), f"rn{self.subnet}h{host}"
        _ip("netns", "add", there)
        self._hosts.append(host)
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", there)
        _ip("link", "set", cable, "master", self._bridge, "up")
        _ip("-n", there, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
        _ip("-n", there, "link", "set", "lo", "up")
        _ip("-n", there, "link", "set", "eth0", "up")
        self._tell({"open": there, "host": host})
        _ip("-n", there, "link", "set", DEVICE, "up")
        # A host may be answered by the cable when it has asked by the wire.
        filters = "/proc/sys/net/ipv4/conf/{all,eth0," + DEVICE + "}/rp_filter"
        subprocess.run(
            [*self.prefix(host), "bash", "-c", f"for f in {filters}; do echo 0 > $f; done"],
            check=True,
        )
        return self.address(host)

    def set_links(self, links: Mapping[tuple[int, int], Link]) -> None:
        """How packets fare from one host to another, by (from, to); all others go by cable."""
        self._tell({"links": [link.as_list(*ends) for ends, link in links.items()]})
        for source, target in sorted(links.keys() - self._by_wire):
            self._route("add", source, target)
        for source, target in sorted(self._by_wire - links.keys()):
            self._route("del", source, target)
        self._by_wire = set(links)

    def cut(self, some: Iterable[int], others: Iterable[int], ways: str = "both") -> None:
        """Cut the links between two groups. ``ways``: both, "out" of some, or "in" to some."""
        pairs = [(s, o) for s in some for o in others if s != o]
        links = {}
        if ways in ("both", "out"):
            links |= dict.fromkeys(pairs, CUT)
        if ways in ("both", "in"):
            links |= {(o, s): CUT for s, o in pairs}
        self.set_links(links)

    def heal(self) -> None:
        self.set_links({})

    def _route(self, action: str, source: int, target: int) -> None:
        there = ["-n", self.namespace(source), "route", action, f"{self.address(target)}/32"]
        _ip(*there, "dev", DEVICE, "src", self.address(source))

    def _tell(self, command: dict[str, object]) -> None:
        assert self._wire.stdin is not None and self._wire.stdout is not None
        self._wire.stdin.write(json.dumps(command) + "\n")
        self._wire.stdin.flush()
        answer = self._wire.stdout.readline()
        assert answer == "ok\n", f"the wire has ended (status {self._wire.poll()})"

    def close(self) -> None:
        """Remove everything. The processes on the hosts must have ended."""
        assert self._wire.stdin is not None
        self._wire.stdin.close()
        self._wire.wait(10)
        for host in self._hosts:
            _ip("netns", "del", self.namespace(host))
        _ip("link", "del", self._bridge)

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def remove_orphans() -> None:
    """Remove the namespaces and bridges of processes that are gone."""
    found = [_NAME.match(line.split()[0]) for line in _ip("netns", "list").splitlines() if line]
    orphans = [m for m in found if m and not Path(f"/proc/{m['owner']}").exists()]
    for match in orphans:
        _ip("netns", "del", match.string)
    for subnet in {match["subnet"] for match in orphans} & _bridges():
        _ip("link", "del", f"rayft{subnet}")


def _bridges() -> set[str]:
    lines = _ip("-o", "link", "show", "type", "bridge")
    return set(re.findall(r"\brayft(\d+)\b", lines))


def _free_subnet() -> int:
    taken = _bridges()
    return random.choice([n for n in range(1, 250) if str(n) not in taken])


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
