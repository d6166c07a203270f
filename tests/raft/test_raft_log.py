"""The log in memory, against a plain list."""

from __future__ import annotations

import pytest
from bench import entries
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.raft.log import ENTRY_OVERHEAD_BYTES, UNKNOWN_TERM, RaftLog
from actors.raft.messages import Entry, EntryKind
from actors.raft.ready import HardState, Restored, SnapshotMark

NO_STATE = HardState(9, 0)


def log_of(terms: list[int], snapshot: tuple[int, int] = (0, 0)) -> RaftLog:
    mark = SnapshotMark(*snapshot)
    return RaftLog(Restored(NO_STATE, mark, entries(terms, mark.index + 1)))


def test_terms_inside_and_outside() -> None:
    log = log_of([2, 2, 3], (5, 2))
    assert [log.term_at(i) for i in range(3, 10)] == [-1, -1, 2, 2, 2, 3, -1]
    assert UNKNOWN_TERM == -1
    assert (log.first_index, log.last_index, log.last_term) == (6, 8, 3)


@given(
    st.lists(st.integers(1, 6), max_size=20).map(sorted),
    st.integers(0, 25),
    st.integers(0, 7),
)
def test_find_conflict_by_term_is_the_last_place_with_at_most_that_term(
    terms: list[int], index: int, term: int
) -> None:
    log = log_of(terms)
    start = min(index, len(terms))
    expected = next(i for i in range(start, -1, -1) if log.term_at(i) <= term)
    assert log.find_conflict_by_term(index, term) == (expected, log.term_at(expected))


def test_find_conflict_by_term_in_a_compacted_log() -> None:
    log = log_of([5, 6], (10, 5))
    assert log.find_conflict_by_term(12, 5) == (11, 5)
    assert log.find_conflict_by_term(12, 4) == (9, 0)
    assert log.find_conflict_by_term(3, 5) == (3, 0)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_sequence_of_changes_agrees_with_a_list(data: st.DataObject) -> None:
    log = log_of([])
    model: list[Entry] = []
    base = 0
    term = 1
    for _ in range(data.draw(st.integers(0, 15))):
        action = data.draw(st.sampled_from(["append", "truncate", "commit", "compact", "term"]))
        if action == "append":
            sizes = data.draw(st.lists(st.integers(0, 20), max_size=5))
            new = [
                Entry(len(model) + 1 + i, term, EntryKind.COMMAND, bytes(size))
                for i, size in enumerate(sizes)
            ]
            model += new
            log.append(new)
        elif action == "truncate" and log.commit_index < len(model):
            index = data.draw(st.integers(log.commit_index + 1, len(model)))
            log.truncate(index)
            del model[index - 1 :]
        elif action == "commit":
            log.commit_to(data.draw(st.integers(0, len(model))))
            log.take_unwritten()
            log.persisted_to(len(model))
            while taken := log.take_committed(50, 10_000):
                log.applied_to(taken[-1].index)
        elif action == "compact" and log.applied_index:
            at = data.draw(st.integers(1, log.applied_index))
            if at > log.snapshot.index:
                keep = data.draw(st.integers(1, at + 5))
                log.snapshot_saved(SnapshotMark(at, model[at - 1].term), keep)
                base = max(base, min(keep, at + 1) - 1)
        elif action == "term":
            term += 1
        compare(log, model, base)


def compare(log: RaftLog, model: list[Entry], base: int) -> None:
    assert (log.base_index, log.last_index) == (base, len(model))
    assert log.byte_count == sum(len(e.data) + ENTRY_OVERHEAD_BYTES for e in model[base:])
    for index in range(base + 1, len(model) + 1):
        assert log.entry(index) == model[index - 1]
        got = log.slice(index, len(model), 200, 3)
        size, count = 0, 0
        for entry in model[index - 1 :]:
            size += len(entry.data) + ENTRY_OVERHEAD_BYTES
            if count and (size > 200 or count == 3):
                break
            count += 1
        assert got == tuple(model[index - 1 : index - 1 + count])


def test_an_entry_larger_than_the_limit_travels_alone() -> None:
    log = log_of([1, 1])
    assert len(log.slice(1, 2, 1, 100)) == 1


def test_what_is_committed_cannot_be_truncated() -> None:
    log = log_of([1, 1, 1])
    log.commit_to(2)
    with pytest.raises(AssertionError):
        log.truncate(2)


def test_unwritten_entries_are_handed_out_once_and_again_after_a_truncation() -> None:
    log = log_of([1])
    log.append(entries([1, 1], 2))
    assert [e.index for e in log.take_unwritten()] == [2, 3]
    assert log.take_unwritten() == ()
    log.truncate(3)
    log.append(entries([2], 3))
    assert log.take_unwritten() == entries([2], 3)


@pytest.mark.parametrize("terms", [[2, 1], [0]])
def test_a_stored_log_whose_terms_fall_is_refused(terms: list[int]) -> None:
    with pytest.raises(ValueError, match="damaged"):
        log_of(terms)


def test_a_stored_log_with_a_gap_is_refused() -> None:
    with pytest.raises(ValueError, match="damaged"):
        RaftLog(Restored(NO_STATE, SnapshotMark(0, 0), entries([1], 2)))


# What a disk may hold after a crash (Restored.from_disk)


@pytest.mark.parametrize(
    ("mark", "first", "terms", "kept"),
    [
        ((0, 0), 1, [1, 1], [1, 2]),
        ((2, 1), 1, [1, 1, 1, 2], [3, 4]),
        ((2, 2), 1, [1, 1, 1], []),
        ((9, 2), 1, [1, 1, 1], []),
        ((3, 1), 1, [1, 1, 1], []),
        ((3, 1), 4, [1, 2], [4, 5]),
        ((3, 1), 3, [1, 2], [4]),
        ((3, 1), 1, [], []),
    ],
)
def test_a_snapshot_and_a_stored_log_are_put_together(
    mark: tuple[int, int], first: int, terms: list[int], kept: list[int]
) -> None:
    restored = Restored.from_disk(NO_STATE, SnapshotMark(*mark), entries(terms, first))
    assert [entry.index for entry in restored.entries] == kept
    assert RaftLog(restored).last_index == max(kept, default=mark[0])


def test_a_gap_between_snapshot_and_log_is_refused() -> None:
    with pytest.raises(ValueError, match="missing"):
        Restored.from_disk(NO_STATE, SnapshotMark(3, 1), entries([1], 5))
