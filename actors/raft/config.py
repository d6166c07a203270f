"""Configuration of one Raft core: identity, time-outs and a limit for everything that can grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["ELECTION_TIMEOUT_CEILING_MS", "VOTERS_MAX", "CoreConfig", "Randomness"]

# More voters than this only make commits slower; nine already survive four failures.
VOTERS_MAX = 9

# A time-out above one hour is a mistake in the unit.
ELECTION_TIMEOUT_CEILING_MS = 3_600_000

_KIB = 1024
_MIB = 1024 * 1024


class Randomness(Protocol):
    """The only source of chance in the core; ``random.Random`` fits."""

    def randint(self, a: int, b: int, /) -> int:
        """An integer N with a <= N <= b."""


@dataclass(frozen=True, slots=True)
class CoreConfig:
    """Settings of one core; the same on every server except for ``server_id``."""

    # This server's id: positive, and never used again for a server with another history.
    server_id: int
    # Ids of the servers that vote while neither log nor snapshot holds a membership. A server that
    # is not among them (they may be none at all) is passive: it follows whoever leads, until the
    # log makes it a member.
    voters: tuple[int, ...]
    # A follower that hears nothing for a time drawn from [min, max] campaigns (paper, 5.2).
    election_timeout_min_ms: int = 750
    election_timeout_max_ms: int = 1000
    # A leader sends heartbeats at least this often.
    heartbeat_interval_ms: int = 100
    # A new commit index travels with the next Append; if none leaves for so long, by itself. 0: at
    # once, by itself if need be.
    commit_notice_ms: int = 10
    # Entries in one Append: bytes (a single larger entry still travels alone) and number.
    append_bytes_max: int = 256 * _KIB
    append_entries_max: int = 1024
    # Appends sent to one peer and not yet answered: messages and bytes.
    inflight_messages_max: int = 16
    inflight_bytes_max: int = 4 * _MIB
    # Bytes in a leader's log after its commit index; proposals beyond are refused.
    uncommitted_bytes_max: int = 64 * _MIB
    # Bytes of committed entries in one Ready, and bytes handed out and not yet applied.
    committed_bytes_max: int = 4 * _MIB
    unapplied_bytes_max: int = 16 * _MIB
    # Linearizable reads waiting for a leader's confirmation; more fail at once.
    pending_reads_max: int = 16_384
    # Heartbeat rounds for reads under way at once; reads beyond wait for the next round.
    read_rounds_max: int = 2
    # A learner that lacks no more entries than this (nor more than inflight_bytes_max bytes) has
    # caught up and may vote.
    caught_up_entries_max: int = 64
    # Data bytes in one SnapshotChunk, and when an unanswered one is sent again.
    snapshot_chunk_bytes: int = 256 * _KIB
    snapshot_retry_ms: int = 1000
    # A leader whose disk answers nothing for longer steps down.
    persist_stall_max_ms: int = 10_000
    # Ask whether an election could be won before raising the term (dissertation, 9.6).
    pre_vote: bool = True
    # Stand for election. Off for a server that votes and keeps its log but has no state to serve.
    campaign: bool = True
    # Leaders without a majority step down; followers of a live leader ignore vote requests
    # (dissertation, 6.2 and 4.2.3).
    check_quorum: bool = True

    def validate(self) -> None:
        """Check every field.

        Raises:
            ValueError: names the field, what is wrong with it and what would be right.
        """
        self._validate_members()
        self._validate_times()
        for name in _POSITIVE_LIMITS:
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} is {value}: give a positive number")
        if self.inflight_bytes_max < self.append_bytes_max:
            raise ValueError(
                f"inflight_bytes_max ({self.inflight_bytes_max}) is below append_bytes_max "
                f"({self.append_bytes_max}): raise it, or one Append never fits"
            )
        if self.unapplied_bytes_max < self.committed_bytes_max:
            raise ValueError(
                f"unapplied_bytes_max ({self.unapplied_bytes_max}) is below committed_bytes_max "
                f"({self.committed_bytes_max}): raise it"
            )

    def _validate_members(self) -> None:
        if len(self.voters) > VOTERS_MAX:
            raise ValueError(f"voters has {len(self.voters)} ids: give at most {VOTERS_MAX}")
        if len(set(self.voters)) != len(self.voters):
            raise ValueError(f"voters {self.voters} names an id twice: give each server its own")
        for name, ids in (("server_id", (self.server_id,)), ("voters", self.voters)):
            if not all(1 <= server_id < 1 << 32 for server_id in ids):
                raise ValueError(f"{name} is {ids}: ids must be positive and below 2**32")

    def _validate_times(self) -> None:
        low, high = self.election_timeout_min_ms, self.election_timeout_max_ms
        if not 1 <= low <= high <= ELECTION_TIMEOUT_CEILING_MS:
            raise ValueError(
                f"election time-out {low}..{high} ms: give 1 <= min <= max <= "
                f"{ELECTION_TIMEOUT_CEILING_MS}"
            )
        if not 1 <= self.heartbeat_interval_ms < low:
            raise ValueError(
                f"heartbeat_interval_ms is {self.heartbeat_interval_ms}: it must be positive and "
                f"below election_timeout_min_ms ({low}), or followers campaign between heartbeats"
            )


_POSITIVE_LIMITS = (
    "append_bytes_max",
    "append_entries_max",
    "inflight_messages_max",
    "inflight_bytes_max",
    "uncommitted_bytes_max",
    "committed_bytes_max",
    "unapplied_bytes_max",
    "pending_reads_max",
    "read_rounds_max",
    "caught_up_entries_max",
    "snapshot_chunk_bytes",
    "snapshot_retry_ms",
    "persist_stall_max_ms",
)
