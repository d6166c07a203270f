"""Random runs of whole clusters; ``harness.py`` says what is checked after every event."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from harness import Cluster, Faults

# More of them, for a night: RAYFT_RAFT_SEEDS=10000.
SEEDS = int(os.environ.get("RAYFT_RAFT_SEEDS", "100"))
DURATION_MS = 700
TOTAL: Counter[str] = Counter()


@pytest.mark.parametrize("block", range(10))
def test_safety_under_faults_and_liveness_after_them(block: int) -> None:
    for seed in range(block * SEEDS // 10, (block + 1) * SEEDS // 10):
        cluster = run(seed)
        TOTAL.update(cluster.count)
    TOTAL["blocks"] += 1


def run(seed: int, faults: Faults | None = None, duration_ms: int = DURATION_MS) -> Cluster:
    size = (1, 2, 3, 3, 3, 4, 5)[seed % 7]
    settings = {"pre_vote": seed % 5 != 0, "check_quorum": seed % 4 != 0}
    cluster = Cluster(size, seed, faults, **settings)
    try:
        cluster.run(duration_ms)
        cluster.settle()
    except Exception as error:
        error.add_note(f"seed {seed}, {cluster.faults}\n{cluster.report()}")
        raise
    return cluster


def test_the_runs_met_every_fault_that_they_are_for() -> None:
    if TOTAL["blocks"] < 10:
        pytest.skip("only a part of the runs was made")
    least = {"installed": 5, "TimeoutNow": 10, "NOT_CAUGHT_UP": 1, "lost": 10}
    for name in (
        "AddMember",
        "AppendReply",
        "CHANGE_IN_PROGRESS",
        "HeartbeatReply",
        "NOT_CAUGHT_UP",
        "PreVoteReply",
        "RemoveMember",
        "SetRole",
        "SnapshotReply",
        "TimeoutNow",
        "crashes",
        "installed",
        "leaders",
        "lost",
        "memberships",
        "partitions",
        "reads",
        "reads_failed",
        "refused",
        "removed",
        "snapshots",
    ):
        assert TOTAL[name] >= least.get(name, 20), (name, TOTAL)
    assert TOTAL["dropped"] == 0, "a correct server sent something that looked impossible"


def test_the_same_seed_gives_the_same_run() -> None:
    assert list(run(3).trace) == list(run(3).trace)
