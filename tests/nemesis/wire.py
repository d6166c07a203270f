"""A bad wire between network namespaces: delays, loses and swallows packets. Needs root and Linux.

    python -m tests.nemesis.wire

Kernels differ in what bad networks they can play (``tc netem`` is a module that many do not have),
so this is our own. Each host has, beside its cable, a TUN device whose other end is this process. A
route in the host's namespace decides, for each other host, whether packets go by the cable or by
the wire; what comes by the wire is delivered at the other host's device when its link says so, or
never. A link is one-way: from host, to host.

Commands come as JSON lines on the standard input, each answered by a line ``ok``::

    {"open": "namespace", "host": 3}        a host's device, made here, named ``DEVICE``
    {"links": [[1, 2, 30.0, 5.0, 0.02]]}    from, to, delay ms, jitter ms, share lost; all links of
                                            the wire. What takes none of them is swallowed.

The process ends with its standard input, and its devices with it.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any

DEVICE = "wire0"
QUEUE_MAX = 20_000  # packets under way; more are lost, as by any switch
PACKET_BYTES_MAX = 65_536

_CLONE_NEWNET = 0x40000000  # sched.h
_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_IPV4 = 4


@dataclass(frozen=True, slots=True)
class Link:
    """How packets fare on their way from one host to another."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0  # on top of the delay, even distribution: packets overtake one another
    loss: float = 0.0  # share that is lost

    def as_list(self, source: int, target: int) -> list[float]:
        return [source, target, self.delay_ms, self.jitter_ms, self.loss]


class Wire:
    """The devices of all hosts, and the packets under way between them."""

    def __init__(self) -> None:
        self._devices: dict[int, int] = {}  # file by host
        self._hosts: dict[int, int] = {}  # host by file
        self._links: dict[tuple[int, int], Link] = {}
        self._under_way: list[tuple[float, int, int, bytes]] = []  # due, number, to host, packet
        self._count = 0
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._libc = ctypes.CDLL(None, use_errno=True)

    def obey(self, command: dict[str, Any]) -> None:
        """Carry out one command of the module's docstring."""
        if "open" in command:
            file = self._open(str(command["open"]))
            self._devices[int(command["host"])] = file
            self._hosts[file] = int(command["host"])
        else:
            self._links = {(int(s), int(t)): Link(*rest) for s, t, *rest in command["links"]}

    def _open(self, namespace: str) -> int:
        there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        try:
            self._enter(there)
            file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            request = struct.pack("16sH14x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI)
            fcntl.ioctl(file, _TUNSETIFF, request)
            return file
        finally:
            self._enter(self._home)
            os.close(there)

    def _enter(self, namespace: int) -> None:
        if self._libc.setns(namespace, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot enter a network namespace")

    def files(self) -> list[int]:
        return list(self._hosts)

    def take(self, file: int) -> None:
        """Take what a host has sent, and lose it or put it on its way."""
        source, now = self._hosts[file], time.monotonic()
        for _ in range(64):  # then the others' turn
            try:
                packet = os.read(file, PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            if len(packet) < 20 or packet[0] >> 4 != _IPV4:
                continue
            target = packet[19]  # the last byte of an IPv4 destination is the host's number
            link = self._links.get((source, target))
            if link is None or random.random() < link.loss or len(self._under_way) > QUEUE_MAX:
                continue
            due = now + (link.delay_ms + random.random() * link.jitter_ms) / 1000
            self._count += 1
            heapq.heappush(self._under_way, (due, self._count, target, packet))

    def deliver(self) -> float:
        """Deliver what is due; the seconds until the next packet is, at most one."""
        while self._under_way:
            wait = self._under_way[0][0] - time.monotonic()
            if wait > 0:
                return min(wait, 1.0)
            _, _, target, packet = heapq.heappop(self._under_way)
            try:
                os.write(self._devices[target], packet)
            except (KeyError, OSError):  # no such host, or its device is full or down: lost
                continue
        return 1.0


def main() -> None:
    """Obey commands and carry packets until the standard input ends."""
    wire, rest = Wire(), b""
    while True:
        ready, _, _ = select.select([0, *wire.files()], [], [], wire.deliver())
        for file in ready:
            if file:
                wire.take(file)
                continue
            data = os.read(0, 65_536)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                wire.obey(json.loads(line))
                sys.stdout.write("ok\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
