"""The product over simulated hosts: two hundred seeds, and what the simulator itself promises."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.simulation.__main__ import main, report
from tests.simulation.nemesis import Nemesis
from tests.simulation.regressions import FOUND
from tests.simulation.simulation import Options, World, run_seed
from tests.simulation.swarm import FAULTS, Swarm
from tests.simulation.world import SimulationFailure

ROOT = Path(__file__).parents[2]
SEEDS = 200
BATCH = 20
QUIET = replace(
    Swarm.draw(Random(0)),
    servers=3,
    gateways=1,
    faults=(),
    loss=0.0,
    duplication=0.0,
    duration_us=300_000,
)


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    """One for each core: seeds have nothing to do with one another."""
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        yield pool


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_seeds(processes: Any, first: int) -> None:
    for result in processes.imap(run_seed, range(first, first + BATCH)):
        assert result.failure is None, report(result)


@pytest.mark.parametrize("seed", sorted({found.seed for found in FOUND} - set(range(SEEDS))))
def test_seeds_that_failed(seed: int) -> None:
    result = run_seed(seed)
    assert result.failure is None, report(result)


@pytest.mark.parametrize("test", sorted({found.test for found in FOUND}))
def test_what_was_found_has_a_test(test: str) -> None:
    path, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text("utf-8")


# --- Determinism ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 4, 11])
def test_the_same_seed_gives_the_same_trace(seed: int) -> None:
    first, second = run_seed(seed), run_seed(seed)
    assert first.digest == second.digest
    assert first.events == second.events


def test_the_same_seed_gives_the_same_trace_in_another_process() -> None:
    """Nothing depends on the hashes of strings, on addresses or on the time of day."""
    lines = set()
    for hash_seed in ("0", "12345"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", "5"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        lines.update(line for line in done.stdout.splitlines() if line.startswith("events "))
    assert len(lines) == 1, lines
    assert f"trace {run_seed(5).digest}" in lines.pop()


def test_seeds_differ() -> None:
    assert len({run_seed(seed).digest for seed in range(3)}) == 3
    swarms = {repr(World(seed, Options()).swarm) for seed in range(50)}
    assert len(swarms) == 50


def test_every_fault_is_drawn_by_some_seed() -> None:
    drawn = {fault for seed in range(SEEDS) for fault in World(seed, Options()).swarm.faults}
    assert drawn == set(FAULTS)
    for fault in FAULTS:
        name = fault.replace(" ", "_").replace("-", "_")
        assert callable(getattr(Nemesis, f"_{name}"))


# --- What it says ---------------------------------------------------------------------------------


def test_a_run_without_faults_works() -> None:
    result = run_seed(1, Options(swarm=QUIET))
    assert result.failure is None
    assert result.count["operations ok"] > 5
    assert result.count["leaders"] >= 2  # one at first, one after the power cut


def test_a_promised_fault_that_does_not_happen_fails_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Nemesis, "_kill", lambda nemesis: False)
    result = run_seed(1, Options(swarm=replace(QUIET, faults=("kill",))))
    assert result.failure is not None
    assert result.failure.kind == "coverage"
    assert "kill" in result.failure.text


def test_a_cluster_that_does_not_recover_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep_cut(nemesis: Nemesis) -> None:
        nemesis.world.network.cut([(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b])

    monkeypatch.setattr(Nemesis, "heal", keep_cut)
    result = run_seed(1, Options(swarm=QUIET))
    assert result.failure is not None
    assert result.failure.kind == "liveness"


def test_an_exception_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.machine import StateMachine

    def broken(machine: StateMachine) -> float:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(StateMachine, "turn", broken)
    result = run_seed(1, Options(swarm=QUIET))
    assert result.failure is not None
    assert result.failure.kind == "crash"
    assert "a defect" in result.failure.text


def test_a_failure_says_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(clients: object) -> None:
        raise SimulationFailure("correctness", "Some check", "something is wrong")

    monkeypatch.setattr("tests.simulation.clients.Clients.scan", fails)
    monkeypatch.setattr(Swarm, "draw", classmethod(lambda cls, random: QUIET))
    assert main(["--seeds", "1", "--first", "7"]) == 1
    output = capsys.readouterr().out
    assert "seed 7 failed, correctness: Some check" in output
    assert "something is wrong" in output
    assert "servers = 3" in output
    assert "python -m tests.simulation --seed 7 --trace" in output
    assert output.endswith("0 passed, 1 failed\n")


def test_success_is_said_in_the_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Swarm, "draw", classmethod(lambda cls, random: QUIET))
    assert main(["--seeds", "2", "--first", "3"]) == 0
    assert capsys.readouterr().out.endswith("\n2 passed, 0 failed\n")
