"""The long-fork checker: by hand, and with replicas that apply in different orders."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tests.checkers import long_fork as checker
from tests.checkers.history import Operation
from tests.checkers.long_fork import check_long_fork
from tests.checkers.making import failed, ok, unknown
from tests.checkers.simulated import HONEST, Clients, Lies


def write(key: str, at: tuple[int, int], value: int = 1) -> Operation:
    return ok(1, "write", (key, value), at=at)


def read(at: tuple[int, int], **values: int | None) -> Operation:
    return ok(2, "read", tuple(values), tuple(values.items()), at=at)


ANY = (1, 100)

GOOD: dict[str, list[Operation]] = {
    "empty": [],
    "one after the other": [
        write("x", ANY),
        write("y", ANY),
        read(ANY, x=None, y=None),
        read(ANY, x=1, y=None),
        read(ANY, x=1, y=1),
    ],
    "different keys": [
        write("x", ANY),
        write("y", ANY),
        write("z", ANY),
        read(ANY, x=1, y=None),
        read(ANY, y=1, z=None),
    ],
    "unknown": [
        unknown(1, "write", ("x", 1), at=(1, 2)),
        read((3, 4), x=None),
        read((5, 6), x=1),
    ],
    "failed": [failed(1, "write", ("x", 1), at=(1, 2)), read((3, 4), x=None)],
    "concurrent": [write("x", (1, 9)), read((2, 3), x=None), read((4, 5), x=1)],
}

BAD: dict[str, tuple[list[Operation], str]] = {
    "a fork": (
        [write("x", ANY), write("y", ANY), read(ANY, x=1, y=None), read(ANY, x=None, y=1)],
        "long fork: keys",
    ),
    "a fork over different keys": (
        [
            write("x", ANY),
            write("y", ANY),
            write("z", ANY),
            read(ANY, x=1, y=None, z=1),
            read(ANY, y=1, x=None),
        ],
        "long fork: keys",
    ),
    "another value": ([write("x", ANY), read(ANY, x=2)], "phantom"),
    "no such write": ([read(ANY, x=1)], "phantom"),
    "a failed write": ([failed(1, "write", ("x", 1), at=ANY), read(ANY, x=1)], "failed write"),
    "of the future": ([read((1, 2), x=1), write("x", (3, 4))], "written only later"),
    "other keys": (
        [write("x", ANY), ok(2, "read", ("y",), (("x", 1),), at=ANY)],
        "answer for other keys",
    ),
}

STALE: dict[str, list[Operation]] = {
    "answered and not seen": [write("x", (1, 2)), read((3, 4), x=None)],
    "seen and not seen": [write("x", (1, 9)), read((2, 3), x=1), read((4, 5), x=None)],
}


@pytest.mark.parametrize("linearizable", [False, True])
@pytest.mark.parametrize("name", GOOD)
def test_good_histories_are_good(name: str, linearizable: bool) -> None:
    found = check_long_fork(GOOD[name], linearizable=linearizable)
    assert found.findings == ()
    assert found.valid is True


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_are_bad(name: str) -> None:
    history, words = BAD[name]
    found = check_long_fork(history)
    assert found.valid is False
    assert words in found.findings[0]


@pytest.mark.parametrize("name", STALE)
def test_stale_reads_are_bad_where_reads_are_linearizable(name: str) -> None:
    assert check_long_fork(STALE[name]).valid is True
    assert check_long_fork(STALE[name], linearizable=True).valid is False


def test_a_fork_is_told_once() -> None:
    history, _ = BAD["a fork"]
    assert len(check_long_fork([*history, *history[2:]]).findings) == 1


def test_a_key_is_written_once_and_not_with_none() -> None:
    for history in (
        [write("x", ANY), write("x", ANY, 2)],
        [ok(1, "write", ("x", None), at=ANY)],
    ):
        with pytest.raises(ValueError, match="a second write, or one of None"):
            check_long_fork(history)


class Replicas:
    """Two copies; if they fork, the other one gets every second write late."""

    def __init__(self, random: Random, forks: bool, stale: float) -> None:
        self.random, self.forks, self.stale = random, forks, stale
        self.states: list[dict[str, int]] = [{}]
        self.other: dict[str, int] = {}
        self.late: list[tuple[str, int]] = []

    def begin(self, action: str, value: Any) -> None:
        pass

    def done(self, action: str, value: Any, begun: None) -> Any:
        if action == "write":
            self.states.append({**self.states[-1], value[0]: value[1]})
            if len(self.states) % 2:
                self.other[value[0]] = value[1]
            else:
                self.other.update(self.late)
                self.late = [value]
            return None
        state = self.states[-1]
        if self.random.random() < self.stale:
            state = self.states[max(0, len(self.states) - 4)]
        if self.forks and self.random.random() < 0.5:
            state = self.other
        return tuple((key, state.get(key)) for key in value)


def history_of(
    seed: int, lies: Lies = HONEST, *, forks: bool = False, stale: float = 0.0
) -> list[Operation]:
    rng = Random(seed)
    clients = Clients(rng, Replicas(rng, forks, stale), lies=lies)
    group: list[str] = []
    groups = 0

    def ask(client: int) -> tuple[str, Any]:
        nonlocal groups
        if not group and rng.random() < 0.3:
            groups += 1
            group.extend(f"{groups}.{n}" for n in range(3))
        if group and rng.random() < 0.4:
            return "write", (group.pop(), 1)
        return "read", tuple(f"{groups}.{n}" for n in range(3))

    clients.run(300, ask)
    return clients.history


@pytest.mark.parametrize("seed", range(8))
def test_a_correct_store_passes(seed: int) -> None:
    found = check_long_fork(history_of(seed), linearizable=True)
    assert found.findings == ()
    assert found.valid is True


@pytest.mark.parametrize("seed", range(3))
def test_a_broken_store_is_caught(seed: int) -> None:
    assert check_long_fork(history_of(seed, forks=True)).valid is False
    assert check_long_fork(history_of(seed, stale=0.3)).valid is True
    assert check_long_fork(history_of(seed, stale=0.3), linearizable=True).valid is False
    failing = history_of(seed, Lies(failed_but_done=1.0))
    assert check_long_fork(failing).valid is False


@pytest.mark.parametrize("name", ["_forks", "_wrong_with", "_unseen", "precedes"])
def test_a_broken_checker_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, name, lambda *_: [])
    bad = [history for history, _ in BAD.values()] + list(STALE.values())
    assert any(check_long_fork(history, linearizable=True).valid for history in bad)
