"""What counts as trouble in what a cluster's processes have said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.nemesis.deployment import Deployment


class Quiet(Deployment):
    """A deployment without processes."""

    def start(self) -> None:
        return

    def address(self, server: int) -> str:
        return f"127.0.0.1:{server}"

    def log(self, name: str, *lines: Any) -> None:
        path = self.place.data / "server_1" / "log" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.writelines((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)

    def says(self, *lines: str) -> None:
        process = SimpleNamespace(poll=lambda: None)
        self.commands[1] = SimpleNamespace(lines=list(lines), process=process)  # type: ignore[assignment]


@pytest.fixture
def quiet() -> Iterator[Quiet]:
    with Quiet() as deployment:
        yield deployment


INFO = {"event": "met", "level": "info", "timestamp": "1"}
ERROR = {"event": "internal error", "level": "error", "timestamp": "1"}


def test_what_is_usual_is_no_trouble(quiet: Quiet) -> None:
    quiet.log("server.log", INFO)
    quiet.says("server 1 leads (term 2)", "ready: bolt://127.0.0.1:7687")
    assert quiet.trouble() == []


def test_errors_are_counted_once_and_told_once(quiet: Quiet) -> None:
    quiet.log("server.log", INFO, ERROR, {**ERROR, "timestamp": "2"})
    (found,) = quiet.trouble()
    assert found.startswith("2 times data/server_1/log/server.log: ")
    assert quiet.trouble() == []
    quiet.log("server.log", ERROR)
    assert len(quiet.trouble()) == 1


@pytest.mark.parametrize(
    "line", [{**INFO, "exception": "Traceback"}, {**INFO, "level": "critical"}, "no JSON"]
)
def test_other_signs_of_trouble(quiet: Quiet, line: Any) -> None:
    quiet.log("gateway.log", line)
    assert len(quiet.trouble()) == 1


def test_errors_that_the_faults_cause_are_left_out(quiet: Quiet) -> None:
    quiet.log("server.log", {**ERROR, "kind": "removed"}, ERROR)
    assert len(quiet.trouble('"kind": "removed"')) == 1


def test_what_nobody_caught_stands_in_rays_logs(quiet: Quiet) -> None:
    path = Path(quiet.place.path / "ray" / "session_2026" / "logs" / "worker-1-2-3.err")
    path.parent.mkdir(parents=True)
    path.write_text("fine\nTraceback (most recent call last):\n  File x\nKeyError: 7\n")
    (found,) = quiet.trouble()
    assert "KeyError: 7" in found


def test_deaths_that_nobody_caused(quiet: Quiet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.nemesis.deployment.kill_server", lambda *_: 4711)
    death = "server 1 has died; starting it again"
    quiet.says(death)
    assert quiet.kill(1)
    assert quiet.trouble() == []
    quiet.says(death, death, "gateway 2 has died; starting it again")
    assert quiet.trouble() == [
        "server 1 died by itself (1 times)",
        "gateway 2 died by itself (1 times)",
    ]
    assert quiet.trouble() == []


def test_a_command_that_has_ended_is_trouble(quiet: Quiet) -> None:
    quiet.says()
    quiet.commands[1].process = SimpleNamespace(poll=lambda: 1)  # type: ignore[assignment]
    quiet.commands[1].output = "stopped"  # type: ignore[misc]
    (found,) = quiet.trouble()
    assert found == "command 1 has ended:\nstopped"
