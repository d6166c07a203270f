"""The set checker: by hand, and with a store that loses, repeats and resurrects."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tests.checkers import set as checker
from tests.checkers.history import Operation
from tests.checkers.making import failed, ok, unknown
from tests.checkers.set import check_set
from tests.checkers.simulated import HONEST, Clients, Lies


def add(element: int, at: tuple[int, int]) -> Operation:
    return ok(1, "add", element, at=at)


def remove(element: int, at: tuple[int, int]) -> Operation:
    return ok(1, "remove", element, at=at)


def read(*elements: int, at: tuple[int, int]) -> Operation:
    return ok(2, "read", None, elements, at=at)


GOOD: dict[str, list[Operation]] = {
    "empty": [],
    "a read of nothing": [read(at=(1, 2))],
    "added and read": [add(1, (1, 2)), add(2, (3, 4)), read(2, 1, at=(5, 6))],
    "a read beside an add": [
        add(1, (1, 9)),
        read(at=(2, 3)),
        read(1, at=(4, 5)),
        read(1, at=(10, 11)),
    ],
    "an unknown add came": [unknown(1, "add", 1, at=(1, 2)), read(at=(3, 4)), read(1, at=(5, 6))],
    "an unknown add never came": [unknown(1, "add", 1, at=(1, 2)), read(at=(3, 4))],
    "a failed add": [failed(1, "add", 1, at=(1, 2)), read(at=(3, 4))],
    "removed": [add(1, (1, 2)), read(1, at=(3, 4)), remove(1, (5, 6)), read(at=(7, 8))],
    "an unknown removal, late": [
        add(1, (1, 2)),
        unknown(1, "remove", 1, at=(3, 4)),
        read(1, at=(5, 6)),
        read(at=(7, 8)),
    ],
    "a failed removal": [add(1, (1, 2)), failed(1, "remove", 1, at=(3, 4)), read(1, at=(5, 6))],
    "an unknown add after its removal": [
        unknown(1, "add", 1, at=(1, 2)),
        remove(1, (3, 4)),
        read(at=(5, 6)),
        read(1, at=(7, 8)),
    ],
    "overlapping reads differ": [
        unknown(1, "add", 1, at=(1, 2)),
        unknown(1, "remove", 1, at=(1, 2)),
        read(1, at=(3, 9)),
        read(at=(4, 10)),
        read(1, at=(11, 12)),
    ],
}

BAD: dict[str, tuple[list[Operation], str]] = {
    "lost": ([add(1, (1, 2)), read(at=(3, 4))], "lost: 1"),
    "duplicate": ([add(1, (1, 2)), read(1, 1, at=(3, 4))], "duplicate: 1"),
    "never added": ([read(7, at=(1, 2))], "never added: 7"),
    "failed": ([failed(1, "add", 1, at=(1, 2)), read(1, at=(3, 4))], "the add failed: 1"),
    "from the future": (
        [read(1, at=(1, 2)), add(1, (3, 4)), read(1, at=(5, 6))],
        "added only later: 1",
    ),
    "an unknown add vanished": (
        [unknown(1, "add", 1, at=(1, 2)), read(1, at=(3, 4)), read(at=(5, 6))],
        "vanished: 1",
    ),
    "seen before it was acknowledged, then not": (
        [add(1, (1, 9)), read(1, at=(2, 3)), read(at=(4, 5)), read(1, at=(10, 11))],
        "vanished: 1",
    ),
    "still there": ([add(1, (1, 2)), remove(1, (3, 4)), read(1, at=(5, 6))], "removed before: 1"),
    "resurrected": (
        [
            add(1, (1, 2)),
            unknown(1, "remove", 1, at=(3, 4)),
            read(at=(5, 6)),
            read(1, at=(7, 8)),
        ],
        "resurrected: 1",
    ),
    "an unknown add resurrected": (
        [
            unknown(1, "add", 1, at=(1, 2)),
            read(1, at=(3, 4)),
            unknown(1, "remove", 1, at=(5, 6)),
            read(at=(7, 8)),
            read(1, at=(9, 10)),
        ],
        "resurrected: 1",
    ),
    "gone though the removal failed": (
        [add(1, (1, 2)), failed(1, "remove", 1, at=(3, 4)), read(at=(5, 6))],
        "lost: 1",
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_are_good(name: str) -> None:
    found = check_set(GOOD[name])
    assert found.findings == ()
    assert found.valid is True


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_are_bad(name: str) -> None:
    history, words = BAD[name]
    found = check_set(history)
    assert found.valid is False
    assert words in found.findings[0]


def test_without_a_final_read_there_is_no_verdict() -> None:
    assert check_set([add(1, (1, 2))]).valid is None
    assert check_set([read(at=(1, 2)), add(1, (3, 4))]).valid is None
    assert check_set([failed(1, "add", 1, at=(1, 2))]).valid is True


def local(*elements: int, at: tuple[int, int]) -> Operation:
    return ok(3, "local-read", None, elements, at=at)


def test_local_reads_may_be_of_the_past() -> None:
    history = [
        add(1, (1, 2)),
        local(at=(3, 4)),
        read(1, at=(5, 6)),
        local(at=(7, 8)),
        remove(1, (9, 10)),
        local(1, at=(11, 12)),
        read(at=(13, 14)),
    ]
    assert check_set(history).findings == ()
    assert check_set(history[:-1]).valid is None


def test_what_a_local_read_shows_is_true() -> None:
    never = [unknown(1, "add", 1, at=(1, 2)), local(1, at=(3, 4)), read(at=(5, 6))]
    assert "vanished: 1" in check_set(never).findings[0]
    assert "never added: 7" in check_set([local(7, at=(1, 2))]).findings[0]
    later = [local(1, at=(1, 2)), add(1, (3, 4)), read(1, at=(5, 6))]
    assert "added only later: 1" in check_set(later).findings[0]


def test_an_element_is_added_once() -> None:
    with pytest.raises(ValueError, match="a second add of 1"):
        check_set([add(1, (1, 2)), add(1, (3, 4))])


class Elements:
    """A list of elements, with switches."""

    def __init__(self, random: Random, stale: float) -> None:
        self.random, self.stale = random, stale
        self.states: list[tuple[int, ...]] = [()]

    def begin(self, action: str, value: Any) -> None:
        pass

    def done(self, action: str, value: Any, begun: None) -> Any:
        newest = self.states[-1]
        if action == "read":
            return self.states[-4:][0] if self.random.random() < self.stale else newest
        if action == "add":
            self.states.append((*newest, value))
        else:
            self.states.append(tuple(element for element in newest if element != value))
        return None


def set_of(seed: int, lies: Lies = HONEST, *, stale: float = 0.0) -> list[Operation]:
    rng = Random(seed)
    clients = Clients(rng, Elements(rng, stale), lies=lies)
    elements = iter(range(10**9))
    removable: list[int] = []

    def ask(client: int) -> tuple[str, Any]:
        if len(clients.history) > 20 and rng.random() < 0.2:
            return "read", None
        added = [op.value for op in clients.history if op.action == "add"]
        free = [element for element in added if element not in removable]
        if free and rng.random() < 0.3:
            removable.append(rng.choice(free))
            return "remove", removable[-1]
        return "add", next(elements)

    clients.run(300, ask)
    clients.alone(0, "read", None)
    return clients.history


@pytest.mark.parametrize("seed", range(10))
def test_a_correct_store_passes(seed: int) -> None:
    found = check_set(set_of(seed))
    assert found.findings == ()
    assert found.valid is True


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("lies", "stale"),
    [
        (HONEST, 0.2),
        (Lies(forgotten=0.1), 0.0),
        (Lies(failed_but_done=1.0), 0.0),
        (Lies(done_again=0.2), 0.0),
    ],
    ids=["stale", "lost", "failed but done", "done twice"],
)
def test_a_broken_store_is_caught(seed: int, lies: Lies, stale: float) -> None:
    assert check_set(set_of(seed, lies, stale=stale)).valid is False


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("_wrong_with", lambda *_: []),
        ("_turned_back", lambda *_: []),
        ("_answered", lambda *_: False),
        ("_begun", lambda *_: True),
        ("_settle", lambda *_: None),
    ],
)
def test_a_broken_checker_is_noticed(
    name: str, instead: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker, name, instead)
    wrong = [check_set(history).valid is not True for history in GOOD.values()]
    wrong += [check_set(history).valid is not False for history, _ in BAD.values()]
    assert any(wrong)
