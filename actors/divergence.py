"""Digests compared: whether all servers hold the same graph at the same log index.

Raft makes the logs equal; that equal logs make equal graphs is our own promise, and memory, disks
and code can break it. So from time to time all servers compare, through the log:

1. The leader proposes ``DigestAsked``. Where that entry is applied, at index I, every server keeps
   the root as of I, which costs nothing, and takes its digest in a reader thread.
2. Followers send what they found to the leader, again and again until the matter is closed.
3. When a majority of the voters, the leader among them or not, found the same, the leader proposes
   ``DigestAgreed(I, digest)``.
4. Where that is applied, a server that found something else has diverged, *the leader too*. It
   stops serving at once and takes its state from another one (``quarantine.py``).

So it is the majority that decides and not the leader, and the verdict is in the log: a server that
was away, or slow, compares when it gets there; nothing depends on a message that may be lost. A
server that took its state from a snapshot newer than I has nothing to compare and waits for the
next time. If no digest has a majority (two servers that differ, or three) nobody can say who is
right: that is logged as critical and shown, nobody stops, and the operator decides.

An idle cluster compares nothing, and neither does one server alone.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from actors import limits
from actors.commands import DigestAgreed
from actors.notes import DigestFound
from graph.digest import quick_digest
from graph.store import Root

__all__ = ["DigestWatch", "Divergence"]

log = structlog.get_logger()

# Digests that are remembered; a verdict comes long before that many more are asked for.
KEPT_MAX = 8
# Between two words of a follower about the same digest, and two proposals of the same verdict.
REPEAT_SECONDS = 2.0
# A digest without a verdict holds up the next one for so long.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Divergence:
    """This server's graph is not what it should be."""

    index: int  # log index as of which it differs
    since: int  # log index of the verdict: who has applied it and serves is not concerned
    found: str  # what is wrong, for people


class DigestWatch:
    """One server's part in comparing. Belongs to the state machine's thread.

    Args:
        server_id: this server.
        run: runs a function in a reader thread.
        clock: seconds that only grow.
        entries: log entries between two comparisons, at least.
        seconds: time between two, at least.
    """

    def __init__(
        self,
        server_id: int,
        *,
        run: Callable[[Callable[[], None]], None],
        clock: Callable[[], float],
        entries: int = limits.DIGEST_ENTRIES,
        seconds: float = limits.DIGEST_SECONDS,
    ) -> None:
        self._id = server_id
        self._run = run
        self._clock = clock
        self._entries = entries
        self._seconds = seconds
        self._lock = threading.Lock()
        # Shared with the reader thread, under the lock.
        self._found: dict[int, bytes] = {}  # own digests, by index
        self._root: tuple[int, Root] | None = None  # to be looked at next
        self._busy = False
        self._turn = 0
        # The state machine's alone.
        self._asked_at = 0  # index of the newest DigestAsked
        self._asked_when = clock()
        self._closed = 0  # index of the newest verdict
        self._agreed: dict[int, tuple[bytes, int]] = {}  # verdicts before the own digest was there
        self._reports: dict[int, dict[int, bytes]] = {}  # of voters, by index
        self._spoke_when = 0.0
        self._undecided = 0  # index of a comparison without a majority
        self.compared = 0  # verdicts that this server has agreed with

    @property
    def undecided(self) -> int:
        """Log index as of which the voters differ and no majority agrees; 0 for none."""
        return self._undecided

    # ----------------------------------------------------------------- what the log says

    def asked(self, index: int, root: Root) -> None:
        """Take the digest of ``root``, which is the graph as of ``index``."""
        self._asked_at, self._asked_when = index, self._clock()
        with self._lock:
            self._root = (index, root)
            if self._busy:
                return
            self._busy = True
        self._run(self._take)

    def _take(self) -> None:
        """In a reader thread: the newest root that waits; one that was overtaken is left out."""
        while True:
            with self._lock:
                if self._root is None:
                    self._busy = False
                    return
                (index, root), self._root = self._root, None
                self._turn += 1
                turn = self._turn
            found = quick_digest(root, turn)
            del root
            with self._lock:
                self._found[index] = found
                while len(self._found) > KEPT_MAX:
                    del self._found[min(self._found)]

    def agreed(self, verdict: DigestAgreed, at: int) -> None:
        """The verdict is entry ``at`` of the log."""
        self._closed = max(self._closed, verdict.index)
        self._undecided = 0
        self._reports = {i: r for i, r in self._reports.items() if i > self._closed}
        self._agreed[verdict.index] = (verdict.digest, at)
        while len(self._agreed) > KEPT_MAX:
            del self._agreed[min(self._agreed)]

    def reset(self) -> None:
        """The state was replaced by a snapshot's: what was found before says nothing about it."""
        with self._lock:
            self._found.clear()
            self._root = None
        self._agreed.clear()

    def divergence(self) -> Divergence | None:
        """Whether an own digest contradicts a verdict."""
        for index, (digest, at) in list(self._agreed.items()):
            own = self._own(index)
            if own is None:
                continue  # not there yet, or never
            del self._agreed[index]
            if own != digest:
                text = (
                    f"as of log index {index} this server's graph has the digest {own.hex()}, that "
                    f"of a majority of the servers {digest.hex()}"
                )
                return Divergence(index, at, text)
            self.compared += 1
        return None

    def _own(self, index: int) -> bytes | None:
        with self._lock:
            return self._found.get(index)

    # ----------------------------------------------------------------- following

    def report(self) -> DigestFound | None:
        """What the leader should be told now, if anything."""
        index = self._asked_at
        own = self._own(index)
        now = self._clock()
        if own is None or index <= self._closed or now - self._spoke_when < REPEAT_SECONDS:
            return None
        self._spoke_when = now
        return DigestFound(index, own)

    # ----------------------------------------------------------------- leading

    def reported(self, peer: int, found: DigestFound) -> None:
        """A follower's digest."""
        if found.index <= self._closed:
            return
        self._reports.setdefault(found.index, {})[peer] = found.digest
        while len(self._reports) > KEPT_MAX:
            del self._reports[min(self._reports)]

    def due(self, applied_index: int) -> bool:
        """Whether the leader should ask for digests."""
        waited = self._clock() - self._asked_when
        open_ = self._asked_at > self._closed
        return (
            applied_index - self._asked_at >= self._entries
            and waited >= self._seconds
            and (not open_ or waited >= PATIENCE_SECONDS)
        )

    def verdict(self, voters: Collection[int]) -> DigestAgreed | None:
        """What the leader should propose now, if anything."""
        index = self._asked_at
        own = self._own(index)
        if own is None or index <= self._closed:
            return None
        reports = {**self._reports.get(index, {}), self._id: own}
        counts = Counter(d for voter, d in reports.items() if voter in voters)
        digest, count = counts.most_common(1)[0] if counts else (b"", 0)
        if 2 * count > len(voters):
            now = self._clock()
            if now - self._spoke_when < REPEAT_SECONDS:
                return None
            self._spoke_when = now
            return DigestAgreed(index, digest)
        if sum(counts.values()) == len(voters) and self._undecided != index:
            self._undecided = index
            log.critical(
                "the servers' graphs differ, and no majority agrees: restore from a backup, or "
                "remove the server that you distrust",
                index=index,
                digests={voter: d.hex() for voter, d in sorted(reports.items())},
            )
        return None
