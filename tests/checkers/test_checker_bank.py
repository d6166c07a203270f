"""The bank checker: by hand, against every choice of transfers, and with a bank that errs."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from random import Random
from typing import Any

import pytest

from tests.checkers import bank
from tests.checkers.bank import check_bank
from tests.checkers.history import Operation
from tests.checkers.making import failed, ok, unknown
from tests.checkers.simulated import HONEST, Clients, Lies, Refused

INITIAL = {"a": 10, "b": 10, "c": 10}


def move(source: str, target: str, amount: int, at: tuple[int, int]) -> Operation:
    return ok(1, "transfer", (source, target, amount), at=at)


def read(a: int, b: int, c: int, at: tuple[int, int]) -> Operation:
    return ok(2, "read", None, (("a", a), ("b", b), ("c", c)), at=at)


GOOD: dict[str, list[Operation]] = {
    "empty": [],
    "nothing happened": [read(10, 10, 10, (1, 2))],
    "a transfer": [move("a", "b", 3, (1, 2)), read(7, 13, 10, (3, 4))],
    "a read beside a transfer sees the old": [
        move("a", "b", 3, (1, 9)),
        read(10, 10, 10, (2, 3)),
        read(7, 13, 10, (10, 11)),
    ],
    "a read beside a transfer sees the new": [
        move("a", "b", 3, (1, 9)),
        read(7, 13, 10, (2, 3)),
        read(7, 13, 10, (10, 11)),
    ],
    "an unknown one happened": [
        unknown(1, "transfer", ("a", "b", 3), at=(1, 2)),
        read(7, 13, 10, (3, 4)),
    ],
    "an unknown one did not": [
        unknown(1, "transfer", ("a", "b", 3), at=(1, 2)),
        read(10, 10, 10, (3, 4)),
    ],
    "an unknown one happens between two final reads": [
        unknown(1, "transfer", ("a", "b", 3), at=(1, 2)),
        read(10, 10, 10, (3, 4)),
        read(7, 13, 10, (5, 6)),
    ],
    "a failed one": [failed(1, "transfer", ("a", "b", 3), at=(1, 2)), read(10, 10, 10, (3, 4))],
    "to itself": [move("a", "a", 3, (1, 2)), read(10, 10, 10, (3, 4))],
    "all of it": [move("a", "b", 10, (1, 2)), read(0, 20, 10, (3, 4))],
    "two of three unknown": [
        unknown(1, "transfer", ("a", "b", 1), at=(1, 2)),
        unknown(1, "transfer", ("b", "c", 2), at=(1, 2)),
        unknown(1, "transfer", ("c", "a", 4), at=(1, 2)),
        read(9, 9, 12, (3, 4)),
    ],
    "reads without an answer": [
        failed(2, "read", None, at=(1, 2)),
        unknown(2, "read", None, at=(1, 2)),
    ],
}

BAD: dict[str, tuple[list[Operation], str]] = {
    "money made": ([read(11, 10, 10, (1, 2))], "the total is 31"),
    "a negative balance": ([move("a", "b", 12, (1, 2)), read(-2, 22, 10, (3, 4))], "negative"),
    "an account missing": (
        [ok(2, "read", None, (("a", 20), ("b", 10)), at=(1, 2))],
        "each of the accounts",
    ),
    "an account twice": (
        [ok(2, "read", None, (("a", 0), ("a", 10), ("b", 10), ("c", 10)), at=(1, 2))],
        "each of the accounts",
    ),
    "a transfer lost": (
        [move("a", "b", 3, (1, 2)), read(10, 10, 10, (3, 4))],
        "the final state is not explained",
    ),
    "a transfer done twice": (
        [move("a", "b", 3, (1, 2)), read(4, 16, 10, (3, 4))],
        "the final state is not explained",
    ),
    "a failed one was done": (
        [failed(1, "transfer", ("a", "b", 3), at=(1, 2)), read(7, 13, 10, (3, 4))],
        "the final state is not explained",
    ),
    "money moved by nobody": ([read(9, 11, 10, (1, 2))], "the final state is not explained"),
    "a stale read": (
        [
            move("a", "b", 3, (1, 2)),
            read(10, 10, 10, (3, 4)),
            move("b", "a", 3, (5, 6)),
            read(10, 10, 10, (7, 8)),
        ],
        "a read is not explained",
    ),
    "a read of the future": (
        [read(7, 13, 10, (1, 2)), move("a", "b", 3, (3, 4)), read(7, 13, 10, (5, 6))],
        "a read is not explained",
    ),
    "no choice of unknown ones": (
        [
            unknown(1, "transfer", ("a", "b", 2), at=(1, 2)),
            unknown(1, "transfer", ("a", "b", 4), at=(1, 2)),
            read(7, 13, 10, (3, 4)),
        ],
        "2 transfers may or may not have happened",
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_are_good(name: str) -> None:
    found = check_bank(GOOD[name], INITIAL)
    assert found.findings == ()
    assert found.valid is True


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_are_bad(name: str) -> None:
    history, words = BAD[name]
    found = check_bank(history, INITIAL)
    assert found.valid is False
    assert words in found.findings[0]


def test_debts_can_be_allowed() -> None:
    history, _ = BAD["a negative balance"]
    assert check_bank(history, INITIAL, negative_allowed=True).valid is True


def test_local_reads_may_be_of_the_past() -> None:
    final = read(7, 13, 10, (9, 10))
    moved = move("a", "b", 3, (1, 2))
    for balances in ((10, 10, 10), (7, 13, 10)):
        assert check_bank([moved, local(*balances), final], INITIAL).valid is True
    for wrong in ((9, 11, 10), (11, 10, 10), (4, 16, 10)):
        assert check_bank([moved, local(*wrong), final], INITIAL).valid is False
    later = move("b", "a", 3, (5, 6))
    assert check_bank([local(13, 7, 10), later, read(13, 7, 10, (9, 10))], INITIAL).valid is False
    assert check_bank([moved, local(7, 13, 10)], INITIAL).valid is None


def local(a: int, b: int, c: int) -> Operation:
    return replace(read(a, b, c, (3, 4)), action="local-read")


def test_without_a_final_read_there_is_no_verdict() -> None:
    history = [read(10, 10, 10, (1, 2)), move("a", "b", 3, (3, 4))]
    assert check_bank(history, INITIAL).valid is None


def test_a_search_without_end_is_undecided() -> None:
    rng = Random(1)
    names = [f"a{n}" for n in range(8)]
    history = [
        unknown(1, "transfer", (*rng.sample(names, 2), 2 * rng.randint(1, 50)), at=(1, 2))
        for _ in range(60)
    ]
    odd = (("a0", 1001), ("a1", 999), *((name, 1000) for name in names[2:]))
    final = ok(2, "read", None, odd, at=(3, 4))
    initial = dict.fromkeys(names, 1000)
    assert check_bank([*history, final], initial, steps_max=30).valid is None


@pytest.mark.parametrize("seed", range(5))
def test_the_search_agrees_with_every_choice(seed: int) -> None:
    rng = Random(seed)
    seen = set()
    for _ in range(100):
        moves = [(*rng.sample("abc", 2), rng.randint(1, 5)) for _ in range(rng.randint(0, 7))]
        history = [unknown(1, "transfer", value, at=(1, 2)) for value in moves]
        balances = [rng.randint(6, 14), rng.randint(6, 14)]
        balances.append(30 - sum(balances))
        right = any(
            _after(moves, choice) == balances
            for choice in product((False, True), repeat=len(moves))
        )
        if rng.random() < 0.5 and moves:
            balances = _after(moves, tuple(rng.random() < 0.5 for _ in moves))
            right = True
        seen.add(right)
        found = check_bank(
            [*history, read(balances[0], balances[1], balances[2], (3, 4))],
            INITIAL,
            negative_allowed=True,
        )
        assert found.valid is right, (moves, balances)
    assert seen == {True, False}


def _after(moves: list[tuple[Any, ...]], choice: tuple[bool, ...]) -> list[int]:
    balances = dict(INITIAL)
    for (source, target, amount), taken in zip(moves, choice, strict=True):
        if taken:
            balances[source] -= amount
            balances[target] += amount
    return list(balances.values())


class Accounts:
    """Accounts whose transfers may come apart, and whose reads may be of no one moment."""

    def __init__(self, random: Random, names: list[str], broken: str = "") -> None:
        self.random, self.broken = random, broken
        self.balances = dict.fromkeys(names, 20)
        self.past = [dict(self.balances)]

    def begin(self, action: str, value: Any) -> dict[str, int]:
        return dict(self.balances)

    def done(self, action: str, value: Any, begun: dict[str, int]) -> Any:
        wrong = self.random.random() < 0.1
        if action != "transfer":
            shown = self.balances
            if wrong and self.broken == "stale reads":
                shown = self.past[max(0, len(self.past) - 6)]
            if self.broken == "torn reads":
                half = len(begun) // 2
                shown = {**shown, **dict(list(begun.items())[:half])}
            return tuple(shown.items())
        source, target, amount = value
        seen = begun if self.broken == "lost updates" else self.balances
        if seen[source] < amount:
            raise Refused
        left, right = seen[source] - amount, seen[target] + amount
        self.balances[source] = left
        if not (wrong and self.broken == "half a transfer"):
            self.balances[target] = right
        self.past.append(dict(self.balances))
        return None


def bank_of(seed: int, operations: int, broken: str = "", lies: Lies = HONEST) -> Any:
    rng = Random(seed)
    names = [f"account {n}" for n in range(6)]
    clients = Clients(rng, Accounts(rng, names, broken), lies=lies)

    def ask(client: int) -> tuple[str, Any]:
        if rng.random() < 0.3:
            return "read", None
        return "transfer", (*rng.sample(names, 2), rng.randint(1, 5))

    clients.run(operations, ask)
    clients.alone(0, "read", None)
    return clients.history, dict.fromkeys(names, 20)


@pytest.mark.parametrize("seed", range(8))
def test_a_correct_bank_passes(seed: int) -> None:
    found = check_bank(*bank_of(seed, 400))
    assert found.findings == ()
    assert found.valid is True


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("broken", ["stale reads", "torn reads", "lost updates", "half a transfer"])
def test_a_broken_bank_is_caught(seed: int, broken: str) -> None:
    assert check_bank(*bank_of(seed, 400, broken)).valid is False


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "lies",
    [Lies(forgotten=0.1), Lies(failed_but_done=1.0), Lies(done_again=0.1)],
    ids=["lost", "failed but done", "done twice"],
)
def test_a_lying_bank_is_caught(seed: int, lies: Lies) -> None:
    history, initial = bank_of(seed, 400, lies=lies)
    assert check_bank(history, initial).valid is False


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("_wrong_with", lambda *_: ""),
        ("_Search", type("Yes", (), {"__init__": lambda *_: None, "run": lambda _: True})),
        ("_Search", type("No", (), {"__init__": lambda *_: None, "run": lambda _: False})),
    ],
    ids=["every read is sound", "all is explained", "nothing is"],
)
def test_a_broken_checker_is_noticed(
    name: str, instead: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bank, name, instead)
    cases = [(history, True, "") for history in GOOD.values()]
    cases += [(history, False, words) for history, words in BAD.values()]
    assert any(
        found.valid is not right or words not in "".join(found.findings)
        for history, right, words in cases
        for found in [_tried(history)]
    )


def _tried(history: list[Operation]) -> Any:
    return check_bank(history, INITIAL)
