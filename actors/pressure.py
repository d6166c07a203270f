"""What makes a server refuse writes before it is too late: too many of them, or too little disk.

*Backlog.* Writes that gateways have sent and that are not executed yet are bounded, by number and
by bytes. Beyond it they are refused at once, with an error that drivers take for "try again", in
the thread that takes them from gateways: neither the state machine nor the server loop, and so no
heartbeat, has any work with them.

*Disk.* A log that cannot be written ends the process; nothing acknowledged is lost, but a cluster
whose disks all fill up would be down. So a leader refuses writes while its own disk has less than
``limits.DISK_FREE_BYTES_MIN`` left, or while so many voters have told it the same of theirs that
those with room are no majority. Reads go on, and writes do as soon as there is room again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import structlog

from actors import limits
from actors.notes import DiskNearlyFull
from actors.service import Item

__all__ = ["DISK_NEARLY_FULL", "Backlog", "DiskWatch", "mebibytes"]

log = structlog.get_logger()

# Of Neo4j's codes for exhausted resources; retryable.
DISK_NEARLY_FULL = "Neo.TransientError.General.MemoryPoolOutOfMemoryError"
# Between two words of a server about its disk, and how long one word counts.
REPEAT_SECONDS = 2.0
HEARD_SECONDS = 6.0
# Writes are taken again when this much more than the minimum is free, or they would come and go.
ROOM_PART = 1.25
_MIB = 2**20


class Backlog:
    """Writes between a gateway and their execution. Each counter has one thread that writes it."""

    def __init__(self) -> None:
        self._offered = self._offered_bytes = 0  # the dispatcher's
        self._taken = self._taken_bytes = 0  # the state machine's

    @property
    def count(self) -> int:
        return self._offered - self._taken

    @property
    def bytes(self) -> int:
        return self._offered_bytes - self._taken_bytes

    def offer(self, item: Item) -> bool:
        """Count one more write; False if it must be refused."""
        size = _size(item)
        if self.count >= limits.WAITING_WRITES_MAX:
            return False
        if self.bytes and self.bytes + size > limits.WAITING_WRITES_BYTES_MAX:
            return False
        self._offered += 1
        self._offered_bytes += size
        return True

    def take(self, items: Iterable[Item]) -> None:
        """These are being executed, or have been refused."""
        for item in items:
            self._taken += 1
            self._taken_bytes += _size(item)


def _size(item: Item) -> int:
    return len(item.request.query) + len(item.request.parameters)


class DiskWatch:
    """Room on this server's disk, and what is known of the others'. The state machine's thread.

    Args:
        free_bytes: what this server could still write.
        clock: seconds that only grow.
    """

    def __init__(self, free_bytes: Callable[[], int], clock: Callable[[], float]) -> None:
        self._free_bytes = free_bytes
        self._clock = clock
        self._spoke_when = float("-inf")
        self._heard: dict[int, tuple[float, int]] = {}  # server id -> when, free bytes
        self.nearly_full = False
        self.free = 0

    def look(self) -> None:
        """From time to time."""
        self.free = self._free_bytes()
        least = limits.DISK_FREE_BYTES_MIN
        if self.nearly_full:
            least = int(least * ROOM_PART)
        if self.nearly_full != (self.free < least):
            self.nearly_full = not self.nearly_full
            if self.nearly_full:
                log.error("the disk is nearly full: no writes are taken", free_bytes=self.free)
            else:
                log.info("the disk has room again", free_bytes=self.free)

    def word(self) -> DiskNearlyFull | None:
        """What the leader should be told now, if anything."""
        now = self._clock()
        if not self.nearly_full or now - self._spoke_when < REPEAT_SECONDS:
            return None
        self._spoke_when = now
        return DiskNearlyFull(self.free)

    def heard(self, peer: int, note: DiskNearlyFull) -> None:
        """Another server's disk is nearly full."""
        self._heard[peer] = (self._clock(), note.free_bytes)

    def refusal(self, server_id: int, voters: Collection[int]) -> str:
        """Why the leader takes no writes, in words for a client; empty if it does."""
        if self.nearly_full:
            return _text(f"server {server_id}, which leads,", self.free)
        if not self._heard:
            return ""
        now = self._clock()
        self._heard = {p: h for p, h in self._heard.items() if now - h[0] < HEARD_SECONDS}
        full = {peer: free for peer, (_, free) in self._heard.items() if peer in voters}
        if 2 * (len(voters) - len(full)) > len(voters):
            return ""
        names = ", ".join(str(peer) for peer in sorted(full))
        return _text(f"each of the servers {names}", min(full.values()))


def mebibytes(size: int) -> str:
    """As an operator reads it."""
    return f"{size // _MIB} MiB"


def _text(who: str, free: int) -> str:
    return (
        f"The disk of {who} is nearly full: {mebibytes(free)} are free, "
        f"{mebibytes(limits.DISK_FREE_BYTES_MIN)} are kept. Nothing was done. Reads go on; make "
        "room on the disk, and writes are taken again."
    )
