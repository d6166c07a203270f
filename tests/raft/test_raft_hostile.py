"""A peer may send anything: a core drops and counts what is impossible, and never fails."""

from __future__ import annotations

from typing import Any

import pytest
from bench import (
    acknowledge,
    append,
    candidate,
    command,
    elect,
    entries,
    leader,
    make,
    readies,
    settle,
    step,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.raft import invariants
from actors.raft.config import CoreConfig
from actors.raft.core import RaftCore
from actors.raft.membership import MemberEntry, MemberRole, Membership
from actors.raft.messages import (
    AddMember,
    Append,
    AppendReply,
    Applied,
    ChangeMembership,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    Persisted,
    PreVoteReply,
    PreVoteRequest,
    RemoveMember,
    SetRole,
    SnapshotChunk,
    SnapshotReply,
    SnapshotRestored,
    Tick,
    TimeoutNow,
    TransferLeadership,
    VoteReply,
    VoteRequest,
)
from actors.raft.ready import HardState, Restored

E = Entry


@pytest.mark.parametrize(
    "message",
    [
        Heartbeat(1, 1, 1, 0, 0, True),
        Heartbeat(1, 2, 3, 0, 0, True),
        Heartbeat(0, 2, 1, 0, 0, True),
        Heartbeat(-1, 2, 1, 0, 0, True),
        Heartbeat(1 << 63, 2, 1, 0, 0, True),
        Append(3, 2, 1, 0, 1, 0, ()),
        Append(3, 2, 1, 1, 0, 0, ()),
        Append(3, 2, 1, 1, 4, 0, ()),
        Append(3, 2, 1, -1, 1, 0, ()),
        Append(3, 2, 1, 0, 0, -1, ()),
        Append(3, 2, 1, 0, 0, 0, (E(2, 1, EntryKind.COMMAND, b""),)),
        Append(3, 2, 1, 0, 0, 0, (E(1, 0, EntryKind.COMMAND, b""),)),
        Append(3, 2, 1, 0, 0, 0, (E(1, 4, EntryKind.COMMAND, b""),)),
        Append(3, 2, 1, 2, 2, 0, (E(3, 1, EntryKind.COMMAND, b""),)),
        Append(3, 2, 1, 0, 0, 0, (*entries([1]), *entries([1]))),
        VoteRequest(3, 2, 1, 5, 0),
        VoteRequest(3, 2, 1, 0, 5),
        PreVoteRequest(3, 2, 1, 5, 9),
        AppendReply(3, 2, 1, False, 4, 5, 1),
        AppendReply(3, 2, 1, False, 4, 4, 0),
        AppendReply(3, 2, 1, True, -1, 0, 0),
        SnapshotChunk(3, 2, 1, 0, 0, 0, b"x", True, 1),
        SnapshotChunk(3, 2, 1, 5, 1, 0, b"", False, 9),
        SnapshotChunk(3, 2, 1, 5, 1, 8, b"xx", True, 9),
        SnapshotChunk(3, 2, 1, 5, 1, 0, b"x", True, 9),
        SnapshotReply(3, 2, 1, 5, 1, -1),
    ],
    ids=str,
)
def test_an_impossible_message_is_dropped_before_it_changes_anything(message: Any) -> None:
    core = make([1, 1], term=2)
    before = core.status()
    core.step(message)
    assert core.dropped == 1
    assert core.ready() is None
    assert core.status().term == before.term


def test_what_would_undo_a_commit_is_dropped() -> None:
    core = make(term=1)
    step(core, append(core, (0, 0), entries([1, 1, 1]), commit=2))
    done = step(core, append(core, (0, 0), entries([2, 2, 2]), term=2))
    assert done.of(AppendReply) == []
    assert (core.dropped, core.log.term_at(2)) == (1, 1)


def test_a_commit_index_beyond_the_log_is_dropped_but_the_heartbeat_counts() -> None:
    core = make([1], term=1)
    done = step(core, Heartbeat(1, 2, 1, 5, 3, True))
    assert done.of(HeartbeatReply) == [HeartbeatReply(1, 1, 2, 3)]
    assert (core.dropped, core.commit_index, core.leader) == (1, 0, 2)


def test_a_second_leader_in_a_term_is_dropped() -> None:
    core = make(term=1)
    step(core, append(core, (0, 0), entries([1])))
    step(core, append(core, (1, 1), entries([1], 2), sender=3))
    assert (core.dropped, core.last_index, core.leader) == (1, 1, 2)


def test_an_acknowledgement_of_entries_that_do_not_exist_is_dropped() -> None:
    core = make()
    elect(core)
    acknowledge(core, [2, 3], 99)
    assert (core.dropped, core.commit_index) == (2, 0)


CONFIGS = [
    (EntryKind.CONFIG, membership.encode())
    for membership in (
        Membership.of_voters((1, 2, 3)),
        Membership.of_voters((1,)),
        Membership.of_voters((2, 4)),
        Membership.of_voters((1, 2)).with_added(MemberEntry(4, MemberRole.JOINING, replaces=2)),
        Membership.of_voters((2,)).with_added(MemberEntry(9, MemberRole.LEARNER)),
    )
]
number = st.integers(0, 6)
head = (st.integers(0, 6), st.integers(1, 4), st.just(1))


@st.composite
def appends(draw: st.DrawFn) -> Append:
    previous = draw(number)
    terms = draw(st.lists(number, max_size=3))
    if draw(st.booleans()):
        terms.sort()
    bodies = [(EntryKind.COMMAND, b""), (EntryKind.CONFIG, b"?"), *CONFIGS]
    new = tuple(
        E(previous + 1 + i, term, *draw(st.sampled_from(bodies))) for i, term in enumerate(terms)
    )
    term, sender = draw(head[0]), draw(head[1])
    return Append(term, sender, 1, previous, draw(number), draw(number), new)


peer_messages = st.one_of(
    appends(),
    appends(),
    st.builds(Heartbeat, *head, number, number, st.booleans()),
    st.builds(HeartbeatReply, *head, number),
    st.builds(AppendReply, *head, st.booleans(), number, number, number),
    st.builds(PreVoteRequest, *head, number, number),
    st.builds(PreVoteReply, *head, st.booleans()),
    st.builds(VoteRequest, *head, number, number),
    st.builds(VoteReply, *head, st.booleans()),
    st.builds(
        SnapshotChunk,
        *head,
        number,
        number,
        st.integers(0, 3),
        st.binary(max_size=2),
        st.booleans(),
        st.integers(0, 3),
    ),
    st.builds(SnapshotReply, *head, number, number, number),
    st.builds(TimeoutNow, *head, number),
)
requests = st.one_of(
    st.builds(TransferLeadership, number, number),
    st.builds(
        ChangeMembership,
        number,
        st.one_of(
            st.builds(AddMember, number, st.sampled_from(MemberRole), st.just(""), number),
            st.builds(RemoveMember, number),
            st.builds(SetRole, number, st.sampled_from(MemberRole)),
        ),
    ),
)


@given(st.lists(st.one_of(peer_messages, requests, st.integers(1, 300), st.none()), max_size=30))
@settings(max_examples=300, deadline=None)
def test_no_sequence_of_messages_makes_a_core_fail(events: list[Any]) -> None:
    """Lies may break consensus, but never an assertion: its invariants hold in each core."""
    core = make([1, 1, 2], term=3, vote=0)
    now_ms = 0
    sequence = 0
    for event in events:
        if isinstance(event, int):
            now_ms += event
            core.step(Tick(now_ms))
        elif event is None:
            core.step(command())
            if sequence:
                core.step(Persisted(sequence))
        else:
            core.step(event)
        for ready in readies(core):
            sequence = max(sequence, ready.sequence)
            if ready.committed:
                core.step(Applied(ready.committed[-1].index))
            for chunk in ready.snapshot_chunks:
                if chunk.last:
                    membership = Membership.of_voters((1, 2, 5)) if chunk.index % 2 else None
                    restored = SnapshotRestored(chunk.index, chunk.snapshot_term, membership)
                    core.step(restored)
    invariants.check(core)


# The own server's part


def test_confirming_a_write_that_was_never_handed_out_is_an_error() -> None:
    with pytest.raises(AssertionError):
        make().step(Persisted(1))


def test_applying_what_was_never_handed_out_is_an_error() -> None:
    with pytest.raises(AssertionError):
        make([1]).step(Applied(1))


def test_something_that_is_no_message_is_an_error() -> None:
    with pytest.raises(AssertionError, match="not a message"):
        make().step("hello")  # type: ignore[arg-type]


def test_a_stored_term_below_the_logs_last_term_is_refused() -> None:
    with pytest.raises(ValueError, match="damaged"):
        RaftCore(CoreConfig(1, (1,)), Restored(HardState(1, 0), entries=entries([2])), Chance(), 0)


class Chance:
    def randint(self, a: int, b: int, /) -> int:
        return b


@pytest.mark.parametrize(
    ("settings_", "text"),
    [
        ({"voters": tuple(range(1, 11))}, "at most 9"),
        ({"voters": (1, 1, 2)}, "twice"),
        ({"voters": (0, 1)}, "positive"),
        ({"server_id": 0}, "server_id"),
        ({"election_timeout_min_ms": 300, "election_timeout_max_ms": 200}, "min <= max"),
        ({"election_timeout_max_ms": 10**9}, "3600000"),
        ({"heartbeat_interval_ms": 750}, "heartbeat_interval_ms"),
        ({"append_bytes_max": 0}, "append_bytes_max is 0"),
        ({"inflight_bytes_max": 1}, "inflight_bytes_max"),
        ({"unapplied_bytes_max": 1}, "unapplied_bytes_max"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(settings_: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        CoreConfig(**{"server_id": 1, "voters": (1, 2, 3), **settings_}).validate()


def test_values_print_well() -> None:
    core = make()
    candidate(core)
    assert repr(core) == "<RaftCore 1 CANDIDATE term=1 leader=0 commit=0 last=0>"
    core = leader()
    core.step(command())
    (ready,) = readies(core)
    assert str(ready).startswith("Ready(sequence=3, entries=2/1, messages=(Append(")
    assert "refused" not in str(ready)
    settle(core)
