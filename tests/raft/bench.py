"""One core on the bench: made in any state, with a disk that answers when it is told to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from actors.raft import invariants
from actors.raft.config import CoreConfig
from actors.raft.core import RaftCore
from actors.raft.membership import Membership
from actors.raft.messages import (
    Append,
    AppendReply,
    Applied,
    ChangeMembership,
    Entry,
    EntryKind,
    MembershipChange,
    Message,
    PeerMessage,
    Persisted,
    PreVoteReply,
    PreVoteRequest,
    Propose,
    Tick,
    VoteReply,
    VoteRequest,
)
from actors.raft.ready import HardState, Ready, RefusalReason, Restored, Role, SnapshotMark

NO_MARK = SnapshotMark(0, 0)
M = TypeVar("M")


class Low:
    """Chance that always draws the lowest number."""

    def randint(self, a: int, b: int, /) -> int:
        assert a <= b
        return a


def entries(terms: Sequence[int], first: int = 1) -> tuple[Entry, ...]:
    """Entries with these terms; equal places and terms give equal entries."""
    return tuple(
        Entry(index, term, EntryKind.COMMAND, b"%d/%d" % (index, term))
        for index, term in enumerate(terms, first)
    )


def make(
    terms: Sequence[int] = (),
    *,
    server_id: int = 1,
    voters: Sequence[int] = (1, 2, 3),
    term: int | None = None,
    vote: int = 0,
    snapshot: SnapshotMark = NO_MARK,
    **settings: Any,
) -> RaftCore:
    """A follower that starts at time 0 with a log of these terms after ``snapshot``."""
    if term is None:
        term = max((*terms, snapshot.term, 0))
    restored = Restored(HardState(term, vote), snapshot, entries(terms, snapshot.index + 1))
    times = {
        "election_timeout_min_ms": 100,
        "election_timeout_max_ms": 200,
        "heartbeat_interval_ms": 10,
    }
    config = CoreConfig(server_id, tuple(voters), **{"commit_notice_ms": 0, **times, **settings})
    return RaftCore(config, restored, Low(), 0)


def readies(core: RaftCore) -> list[Ready]:
    """All there is to do now; nothing is confirmed."""
    result = []
    invariants.check(core)
    while (ready := core.ready()) is not None:
        result.append(ready)
        invariants.check(core)
    return result


class Done:
    """What a core put out until it was quiet, with everything persisted and applied at once."""

    def __init__(self) -> None:
        self.readies: list[Ready] = []

    @property
    def messages(self) -> list[PeerMessage]:
        return [
            message
            for ready in self.readies
            for message in (*ready.messages, *ready.messages_after_persist)
        ]

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.messages if isinstance(message, kind)]

    @property
    def committed(self) -> list[int]:
        return [entry.index for ready in self.readies for entry in ready.committed]

    def __getattr__(self, name: str) -> list[Any]:
        return [item for ready in self.readies for item in getattr(ready, name)]


def settle(core: RaftCore) -> Done:
    done = Done()
    while found := readies(core):
        for ready in found:
            done.readies.append(ready)
            if ready.sequence:
                core.step(Persisted(ready.sequence))
            if ready.committed:
                core.step(Applied(ready.committed[-1].index))
    return done


def step(core: RaftCore, *messages: Message) -> Done:
    """Step these, then settle."""
    for message in messages:
        core.step(message)
    return settle(core)


def candidate(core: RaftCore) -> Done:
    """Let the time-out pass and the pre-vote succeed."""
    done = step(core, Tick(core.deadline_ms))
    for request in done.of(PreVoteRequest):
        if core.role is Role.PRE_CANDIDATE:
            core.step(PreVoteReply(request.term, request.receiver, core.server_id, True))
    done.readies += settle(core).readies
    return done


def elect(core: RaftCore) -> Done:
    """Make it the leader; everyone votes for it."""
    done = candidate(core)
    for request in done.of(VoteRequest):
        if core.role is Role.CANDIDATE:
            core.step(VoteReply(request.term, request.receiver, core.server_id, True))
    assert core.role is Role.LEADER, core
    done.readies += settle(core).readies
    return done


def acknowledge(core: RaftCore, peers: Iterable[int], index: int | None = None) -> Done:
    """These followers have everything, or everything up to ``index``."""
    for peer in peers:
        at = core.last_index if index is None else index
        core.step(AppendReply(core.term, peer, core.server_id, True, at, 0, 0))
    return settle(core)


def leader(terms: Sequence[int] = (), **settings: Any) -> RaftCore:
    """A leader whose first entry is committed and whose followers all replicate."""
    core = make(terms, **settings)
    elect(core)
    for _ in range(2):
        acknowledge(core, core._state.peers)
    return core


def command(token: int = 1, data: bytes = b"x") -> Propose:
    return Propose(token, ((EntryKind.COMMAND, data),))


def append(
    core: RaftCore,
    previous: tuple[int, int],
    new: Sequence[Entry] = (),
    *,
    commit: int = 0,
    term: int | None = None,
    sender: int = 2,
) -> Append:
    """An Append to ``core`` by the leader ``sender``."""
    at = core.term if term is None else term
    return Append(at, sender, core.server_id, *previous, commit, tuple(new))


def role(core: RaftCore) -> Role:
    """Its role; a call, so that a type checker does not think that it stays the same."""
    return core.role


def terms_of(core: RaftCore) -> list[int]:
    log = core.log
    return [log.term_at(index) for index in range(log.first_index, log.last_index + 1)]


def config(index: int, term: int, membership: Membership) -> Entry:
    """A CONFIG entry."""
    return Entry(index, term, EntryKind.CONFIG, membership.encode())


def change(core: RaftCore, request: MembershipChange, token: int = 9) -> RefusalReason | None:
    """Ask for a change; why it was refused, if it was."""
    done = step(core, ChangeMembership(token, request))
    assert len(done.proposed) + len(done.refused) == 1, done.readies
    if done.refused:
        assert done.refused[0].token == token
        return RefusalReason(done.refused[0].reason)
    return None
