"""A place and a running cluster for the tests beside this file; all of it is gone afterwards."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Cluster, Place


@pytest.fixture
def place() -> Iterator[Place]:
    """An empty place, for one test."""
    with _new_place() as new:
        yield new


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three servers, started as a newcomer would start them, for all tests of a module."""
    with _new_place() as new:
        running = Cluster(new)
        running.start()
        yield running
        assert running.command.stop(signal.SIGTERM) == 0, running.command.output
        new.wait_until_empty()


def _new_place() -> Place:
    if not Path("/proc/self/cwd").exists():
        pytest.skip("finds its processes by /proc/<id>/cwd, which this system does not have")
    return Place()
