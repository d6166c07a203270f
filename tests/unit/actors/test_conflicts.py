"""The log of touched entities: a conflict is never missed, whatever was forgotten."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import conflicts, limits
from actors.conflicts import ConflictLog, overlap
from graph.vector import IntArray

IDS = st.sets(st.integers(0, 12), max_size=4)


def ids(*numbers: int) -> IntArray:
    return np.array(sorted(numbers), dtype=np.int64)


NONE = ids()


def test_a_later_batch_that_touched_the_same_node_conflicts() -> None:
    log = ConflictLog()
    log.record(1, ids(5, 6), NONE)
    log.record(2, ids(7), NONE)
    assert log.conflict(0, ids(6), NONE)
    assert not log.conflict(1, ids(6), NONE)
    assert log.conflict(1, ids(7, 99), NONE)
    assert not log.conflict(2, ids(5, 6, 7), NONE)
    assert not log.conflict(0, ids(8), NONE)


def test_nodes_and_relationships_are_told_apart() -> None:
    log = ConflictLog()
    log.record(1, ids(5), ids(6))
    assert not log.conflict(0, ids(6), ids(5))
    assert log.conflict(0, NONE, ids(6))


def test_who_touched_nothing_has_no_conflict() -> None:
    log = ConflictLog()
    log.record(1, ids(5), NONE)
    assert not log.conflict(0, NONE, NONE)


def test_forgotten_batches_are_those_that_nobody_asks_for() -> None:
    log = ConflictLog()
    for version in (1, 2, 3):
        log.record(version, ids(version), NONE)
    log.forget(2)
    assert not log.conflict(2, ids(1, 2), NONE)
    assert log.conflict(2, ids(3), NONE)


def test_what_was_dropped_for_want_of_room_may_have_conflicted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "TOUCHED_IDS_MAX", 4)
    log = ConflictLog()
    log.record(1, ids(1, 2), NONE)
    log.record(2, ids(3), ids(3))
    assert not log.conflict(0, ids(9), NONE)
    log.record(3, ids(4), NONE)  # batch 1 goes
    assert log.conflict(0, ids(9), NONE)
    assert not log.conflict(1, ids(9), NONE)
    log.record(4, ids(*range(10, 20)), NONE)  # larger than the room
    assert log.conflict(3, ids(9), NONE)
    assert not log.conflict(4, ids(9), NONE)


def test_a_new_leadership_begins_with_nothing() -> None:
    log = ConflictLog()
    log.record(1, ids(1), NONE)
    log.clear()
    assert not log.conflict(0, ids(1), NONE)


@settings(deadline=None)
@given(st.lists(st.tuples(IDS, IDS), max_size=12), st.integers(1, 30), st.integers(0, 12), IDS, IDS)
def test_no_conflict_is_missed(
    batches: list[tuple[set[int], set[int]]],
    room: int,
    since: int,
    nodes: set[int],
    relationships: set[int],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "TOUCHED_IDS_MAX", room)
        log = ConflictLog()
        for version, (theirs, their_relationships) in enumerate(batches, 1):
            log.record(version, ids(*theirs), ids(*their_relationships))
        log.forget(since)
        expected = any(
            nodes & theirs or relationships & their_relationships
            for theirs, their_relationships in batches[since:]
        )
        found = log.conflict(since, ids(*nodes), ids(*relationships))
        assert found or not expected
        if room == 30 and len(batches) <= 3:
            assert found == expected


@pytest.mark.parametrize("set_ids_max", [0, 1, 3, 100])
@given(theirs=IDS, mine=IDS)
@settings(max_examples=50)
def test_many_ids_are_compared_like_few(set_ids_max: int, theirs: set[int], mine: set[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conflicts, "SET_IDS_MAX", set_ids_max)
        log = ConflictLog()
        log.record(1, ids(*theirs), NONE)
        log.record(2, NONE, ids(*theirs))
        assert log.conflict(0, ids(*mine), NONE) is bool(theirs & mine)
        assert log.conflict(1, NONE, ids(*mine)) is bool(theirs & mine)
        assert not log.conflict(2, ids(*mine), ids(*mine))
        assert overlap(ids(*mine), ids(*theirs)) is bool(theirs & mine)


def test_everything_conflicts_with_what_was_open_before() -> None:
    log = ConflictLog()
    log.record(1, ids(5), NONE)
    log.everything(2)
    assert log.conflict(1, ids(99), NONE)
    assert log.conflict(0, NONE, NONE)
    assert not log.conflict(2, ids(5), NONE)
