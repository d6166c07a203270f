"""Memberships under compaction, and in snapshots that are restored or received."""

from __future__ import annotations

import pytest
from bench import Low, acknowledge, append, change, command, config, entries, leader, make, step

from actors.raft.config import CoreConfig
from actors.raft.core import RaftCore
from actors.raft.membership import MemberEntry, MemberRole, Membership
from actors.raft.messages import (
    AddMember,
    SnapshotChunk,
    SnapshotRestored,
    SnapshotSaved,
)
from actors.raft.ready import HardState, Restored, SnapshotMark

L = MemberRole.LEARNER
THREE = Membership.of_voters((1, 2, 3))
FOUR = THREE.with_added(MemberEntry(4, L, "a:4"))
FIVE = FOUR.with_added(MemberEntry(5, L))


def changed() -> RaftCore:
    """A leader with 4 added at index 2, and a command after it, all of it applied."""
    core = leader()
    assert change(core, AddMember(4, L, "a:4")) is None
    acknowledge(core, [2, 3])
    step(core, command())
    acknowledge(core, [2, 3])
    assert core.applied_index == 3
    return core


def test_compaction_keeps_the_membership_of_the_point_that_it_reaches() -> None:
    core = changed()
    assert change(core, AddMember(5, L)) is None
    step(core, SnapshotSaved(3, 1, 4, FOUR))
    assert core.log.first_index == 4
    assert core.log.configuration_at(3).membership == FOUR
    assert core.membership == FIVE


def test_an_uncommitted_membership_above_a_snapshot_still_falls_back() -> None:
    core = make(term=1)
    log = [*entries([1]), config(2, 1, FOUR), *entries([1], 3), config(4, 1, FIVE)]
    step(core, append(core, (0, 0), log, commit=3))
    step(core, SnapshotSaved(3, 1, 4, FOUR))
    assert core.membership == FIVE
    step(core, append(core, (3, 1), entries([2], 4), term=2))
    assert core.membership == FOUR


@pytest.mark.parametrize("membership", [None, THREE])
def test_a_snapshot_stored_without_the_membership_is_a_bug_of_the_server(
    membership: Membership | None,
) -> None:
    with pytest.raises(AssertionError, match="would be forgotten"):
        changed().step(SnapshotSaved(3, 1, 4, membership))


def test_a_snapshot_of_a_cluster_that_never_changed_needs_none() -> None:
    core = leader()
    step(core, SnapshotSaved(1, 1, 2))
    assert core.membership == THREE


def test_a_restart_from_a_snapshot_brings_its_membership_back() -> None:
    restored = Restored.from_disk(HardState(1, 0), SnapshotMark(3, 1), (), FOUR)
    core = RaftCore(CoreConfig(1, (1, 2, 3)), restored, Low(), 0)
    assert core.membership == FOUR
    assert core.status().membership_committed
    assert not core.removed


def test_a_server_removed_before_its_snapshot_knows_that() -> None:
    restored = Restored.from_disk(HardState(1, 0), SnapshotMark(3, 1), (), FOUR.with_removed(1))
    core = RaftCore(CoreConfig(1, (1, 2, 3)), restored, Low(), 0)
    assert core.removed


def test_every_way_of_putting_snapshot_and_log_together_keeps_it() -> None:
    mark = SnapshotMark(3, 1)
    for log in ((), entries([1, 1]), entries([1, 1, 2]), entries([1, 1, 1, 1])):
        assert Restored.from_disk(HardState(2, 0), mark, log, FOUR).membership == FOUR


def receive(core: RaftCore, membership: Membership | None) -> None:
    step(core, SnapshotChunk(2, 2, 1, 6, 1, 0, b"x", True, 1))
    done = step(core, SnapshotRestored(6, 1, membership))
    news = [ready.membership for ready in done.readies if ready.membership]
    assert news == ([membership] if membership else [])


def test_a_snapshot_received_brings_its_membership_in_place_of_all_that_was_in_the_log() -> None:
    core = make([1], term=1)
    step(core, append(core, (1, 1), [config(2, 1, FIVE)]))
    receive(core, FOUR)
    assert core.membership == FOUR


def test_a_snapshot_without_one_takes_back_none_that_was_committed() -> None:
    core = make([1], term=1)
    step(core, append(core, (1, 1), [config(2, 1, FOUR), config(3, 1, FIVE)], commit=2))
    step(core, SnapshotChunk(2, 2, 1, 6, 1, 0, b"x", True, 1), SnapshotRestored(6, 1))
    assert core.membership == FOUR


def test_a_snapshot_from_before_the_first_change_leaves_what_the_cluster_began_with() -> None:
    core = make([1], term=1)
    receive(core, None)
    assert core.membership == THREE
    step(core, append(core, (6, 1), [config(7, 2, FOUR)], term=2))
    assert core.membership == FOUR
