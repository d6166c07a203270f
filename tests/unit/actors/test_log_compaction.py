"""When a snapshot is due, and what stays in the log behind it."""

from __future__ import annotations

import pytest

from actors import limits
from actors.compaction import Compaction
from actors.raft.messages import Entry, EntryKind


def apply(compaction: Compaction, first: int, last: int, size: int = 0) -> None:
    for index in range(first, last + 1):
        compaction.applied([Entry(index, 1, EntryKind.COMMAND, bytes(size))])


def test_due_after_so_many_entries() -> None:
    compaction = Compaction(100, 0)
    apply(compaction, 1, 99)
    assert not compaction.due
    apply(compaction, 100, 100)
    assert compaction.due
    compaction.begin()
    compaction.at(100)
    assert not compaction.due
    apply(compaction, 101, 199)
    assert not compaction.due
    apply(compaction, 200, 200)
    assert compaction.due


def test_servers_begin_at_different_entries_and_keep_their_distance() -> None:
    first, second = [], []
    for server in (1, 2, 3, 4):
        compaction = Compaction(800, 0, server)
        for index in range(1, 2_001):
            apply(compaction, index, index)
            if compaction.due:
                (second if len(first) == server else first).append(index)
                compaction.begin()
                compaction.at(index)
    assert sorted(first) == [500, 600, 700, 800]
    assert sorted(second) == [1300, 1400, 1500, 1600]


def test_due_after_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_BYTES_MAX", 1_000)
    compaction = Compaction(100, 0)
    apply(compaction, 1, 9, 100)
    assert not compaction.due
    apply(compaction, 10, 10, 100)
    assert compaction.due
    compaction.begin()
    assert not compaction.due


def test_never() -> None:
    compaction = Compaction(-1, 0)
    apply(compaction, 1, 1_000, 1_000)
    assert not compaction.due
    assert not compaction._runs, "grows without bound"


def test_a_tenth_is_kept() -> None:
    compaction = Compaction(100, 0)
    apply(compaction, 1, 120)
    assert compaction.keep_from(110, None) == 101
    assert Compaction(5, 0).keep_from(50, None) == 50
    assert Compaction(100, 0).keep_from(3, None) == 1


def test_no_more_bytes_are_kept_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_KEPT_BYTES_MAX", 500)
    compaction = Compaction(1_000, 0)
    apply(compaction, 1, 100, 100)
    assert compaction.keep_from(100, None) == 96
    apply(compaction, 101, 110, 100)
    assert compaction.keep_from(102, None) == 103, "entries after the snapshot are always kept"


def test_what_a_follower_will_need_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_KEPT_BYTES_MAX", 500)
    monkeypatch.setattr(limits, "LOG_BYTES_MAX", 5_000)
    compaction = Compaction(1_000, 0)
    apply(compaction, 1, 100, 100)
    assert compaction.keep_from(100, 70) == 71
    apply(compaction, 101, 200, 100)
    assert compaction.keep_from(200, 70) == 151, "not more than the bound"


def test_what_is_not_kept_is_forgotten() -> None:
    compaction = Compaction(100, 0)
    apply(compaction, 1, 10_000)
    compaction.keep_from(10_000, None)
    assert len(compaction._runs) == 10


def test_a_snapshot_from_the_leader_begins_anew() -> None:
    compaction = Compaction(100, 0)
    apply(compaction, 1, 50)
    compaction.at(500)
    assert not compaction.due
    assert compaction.keep_from(500, None) == 491
    apply(compaction, 501, 599)
    assert not compaction.due
    apply(compaction, 600, 600)
    assert compaction.due
