"""A short run of a few pairs: killed leaders, paused servers, a leader cut off from the others.

All of them, and for longer: ``make nemesis``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nemesis.deployment import Deployment
from tests.nemesis.faults import Impossible, IsolateLeader, KillLeader, Nemesis, Pause
from tests.nemesis.runner import Plan, run_pair
from tests.nemesis.workloads import Append, Bank, Register, Workload

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SECONDS = 10.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Deployment]:
    """Three servers of one command."""
    with KillLeader.deployment_for() as running:
        yield running


@pytest.fixture(scope="module")
def hosts() -> Iterator[Deployment]:
    """Three servers on hosts of their own."""
    try:
        deployment = IsolateLeader.deployment_for()
    except Impossible as reason:
        pytest.skip(str(reason))
    with deployment as running:
        yield running


def check(
    deployment: Deployment, nemesis: type[Nemesis], workload: Workload, directory: Path
) -> None:
    seed = random.randrange(1_000_000)
    plan = Plan(SECONDS, seed, directory)
    report = run_pair(deployment, nemesis(deployment, random.Random(seed)), workload, plan)
    said = "\n".join([f"seed {seed}, kept in {report.kept}", *report.findings, *report.faults])
    assert report.passed, said
    assert report.ok > 50, report.row()


def test_lists_while_leaders_are_killed(cluster: Deployment, tmp_path: Path) -> None:
    check(cluster, KillLeader, Append(), tmp_path)


def test_registers_while_servers_are_paused(cluster: Deployment, tmp_path: Path) -> None:
    check(cluster, Pause, Register(), tmp_path)


def test_a_bank_while_leaders_are_cut_off(hosts: Deployment, tmp_path: Path) -> None:
    check(hosts, IsolateLeader, Bank(), tmp_path)
