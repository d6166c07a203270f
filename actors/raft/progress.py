"""A leader's view of one follower, and the window of what is in flight to it.

    PROBE --success--> REPLICATE          one empty Append at a time until the logs are known
      ^  <--refusal---    |               to match somewhere, then entries are pipelined
      |                   |
      +---- SNAPSHOT <----+               needed entries are compacted

``match_index`` is durable at the follower, so it survives everything within one leadership.
"""

from __future__ import annotations

from collections import deque

from actors.raft.config import CoreConfig
from actors.raft.ready import ProgressState, ProgressStatus, SnapshotMark

__all__ = ["Progress", "Transfer"]


class Transfer:
    """A snapshot on its way to one follower, one chunk at a time."""

    __slots__ = ("busy", "deadline_ms", "mark", "offset", "total")

    def __init__(self, mark: SnapshotMark) -> None:
        self.mark = mark
        # Bytes that the follower has, as far as known; where the chunk under way begins.
        self.offset = 0
        # Length of the snapshot; -1 until the first chunk was read.
        self.total = -1
        # A chunk is being read or is in flight, until the deadline.
        self.busy = False
        self.deadline_ms = 0

    @property
    def complete(self) -> bool:
        """Whether the follower has every byte and is installing them."""
        return self.offset == self.total


class Progress:
    """State of replication to one follower."""

    __slots__ = (
        "_inflight",
        "appended_ms",
        "commit_sent",
        "context_acked",
        "heard_ms",
        "inflight_bytes",
        "match_index",
        "next_index",
        "nudge",
        "peer",
        "probe_sent",
        "state",
        "transfer",
    )

    def __init__(self, peer: int, next_index: int, now_ms: int) -> None:
        self.peer = peer
        self.match_index = 0
        self.next_index = next_index
        self.state = ProgressState.PROBE
        # PROBE: the one probe is out.
        self.probe_sent = False
        # REPLICATE: find out by an empty Append whether what is in flight was lost.
        self.nudge = False
        # Last index and bytes of each unanswered Append, oldest first.
        self._inflight: deque[tuple[int, int]] = deque()
        self.inflight_bytes = 0
        # Commit index that the follower will have from what was sent.
        self.commit_sent = 0
        # Newest read context that the follower answered.
        self.context_acked = 0
        self.heard_ms = now_ms
        self.appended_ms = now_ms
        self.transfer: Transfer | None = None

    @property
    def inflight_messages(self) -> int:
        """Appends with entries not answered yet."""
        return len(self._inflight)

    def is_silent(self, now_ms: int, config: CoreConfig) -> bool:
        """Whether the follower has not answered for as long as an election takes to begin."""
        return now_ms - self.heard_ms > config.election_timeout_max_ms

    def window_full(self, config: CoreConfig) -> bool:
        """Whether no further Append with entries may be sent now."""
        return (
            len(self._inflight) >= config.inflight_messages_max
            or self.inflight_bytes >= config.inflight_bytes_max
        )

    def become_probe(self) -> None:
        """Start anew from what the follower certainly has."""
        self.state = ProgressState.PROBE
        self.next_index = self.match_index + 1
        self._forget_flight()

    def become_replicate(self) -> None:
        """The logs match up to ``match_index``: pipeline what follows."""
        self.state = ProgressState.REPLICATE
        self.next_index = self.match_index + 1
        self._forget_flight()

    def become_snapshot(self, mark: SnapshotMark) -> None:
        """Send a snapshot; entries rest until it is installed."""
        self.state = ProgressState.SNAPSHOT
        self._forget_flight()
        self.transfer = Transfer(mark)

    def _forget_flight(self) -> None:
        self.probe_sent = False
        self.nudge = False
        self._inflight.clear()
        self.inflight_bytes = 0
        self.commit_sent = 0
        self.transfer = None

    def sent_entries(self, last_index: int, size_bytes: int) -> None:
        """An Append with entries went out; the next one follows it optimistically."""
        assert self.state is ProgressState.REPLICATE
        self._inflight.append((last_index, size_bytes))
        self.inflight_bytes += size_bytes
        self.next_index = last_index + 1

    def acknowledge(self, index: int) -> bool:
        """The follower has everything up to ``index``; tells whether that is news."""
        while self._inflight and self._inflight[0][0] <= index:
            self.inflight_bytes -= self._inflight.popleft()[1]
        if index <= self.match_index:
            return False
        self.match_index = index
        self.next_index = max(self.next_index, index + 1)
        return True

    def refuse(self, rejected_index: int, next_probe: int) -> bool:
        """The follower refused an Append after ``rejected_index``; False if that is stale.

        A follower that refuses what it has acknowledged has lost its disk. It stays in PROBE
        and is not counted again: only a new server id may make up for lost promises.
        """
        if rejected_index <= self.match_index:
            return False
        if self.state is ProgressState.REPLICATE:
            self.become_probe()
            return True
        if self.state is not ProgressState.PROBE or rejected_index != self.next_index - 1:
            return False
        self.next_index = max(min(rejected_index, next_probe + 1), self.match_index + 1)
        self.probe_sent = False
        return True

    def status(self) -> ProgressStatus:
        """A frozen copy for display."""
        return ProgressStatus(
            peer=self.peer,
            state=self.state,
            match_index=self.match_index,
            next_index=self.next_index,
            inflight_messages=len(self._inflight),
            inflight_bytes=self.inflight_bytes,
            heard_ms=self.heard_ms,
            snapshot_offset=self.transfer.offset if self.transfer else 0,
        )
