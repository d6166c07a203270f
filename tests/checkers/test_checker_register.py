"""The register checker against histories by hand, a naive search, and a store with faults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from random import Random
from typing import Any

import pytest

from tests.checkers import register
from tests.checkers.history import Operation, Outcome, precedes
from tests.checkers.making import failed, ok, unknown
from tests.checkers.register import check_register
from tests.checkers.simulated import HONEST, Clients, Lies


def w(value: Any, at: tuple[int, int], client: int = 1) -> Operation:
    return ok(client, "write", ("x", value), at=at)


def r(value: Any, at: tuple[int, int], client: int = 2) -> Operation:
    return ok(client, "read", "x", value, at=at)


def cas(old: Any, new: Any, done: bool, at: tuple[int, int]) -> Operation:
    return ok(3, "cas", ("x", old, new), done, at=at)


GOOD: dict[str, list[Operation]] = {
    "empty": [],
    "one read of nothing": [r(None, (1, 2))],
    "in order": [w(1, (1, 2)), r(1, (3, 4)), w(2, (5, 6)), r(2, (7, 8))],
    "a read beside a write sees the old": [w(1, (1, 4)), r(None, (2, 3))],
    "a read beside a write sees the new": [w(1, (1, 4)), r(1, (2, 3))],
    "the second of two reads beside a write sees it": [
        w(1, (1, 9)),
        r(None, (2, 3)),
        r(1, (4, 5)),
    ],
    "two writes at once, either order": [w(1, (1, 5)), w(2, (2, 6), 3), r(1, (7, 8))],
    "a slow write after a quick one": [w(1, (1, 9)), w(2, (2, 3), 3), r(2, (4, 5)), r(1, (10, 11))],
    "touching times are concurrent": [w(1, (1, 2)), r(None, (2, 3))],
    "a late unknown write": [
        unknown(1, "write", ("x", 1), at=(1, 2)),
        r(None, (3, 4)),
        r(1, (9, 10)),
    ],
    "an unknown write that never was": [unknown(1, "write", ("x", 1), at=(1, 2)), r(None, (3, 4))],
    "an unknown write between two": [
        unknown(1, "write", ("x", 1), at=(1, 2)),
        w(2, (3, 4)),
        r(2, (5, 6)),
        r(1, (7, 8)),
        w(3, (9, 10)),
        r(3, (11, 12)),
    ],
    "a failed write": [failed(1, "write", ("x", 1), at=(1, 2)), r(None, (3, 4))],
    "reads without an answer": [
        unknown(1, "read", "x", at=(1, 2)),
        failed(1, "read", "x", at=(1, 2)),
    ],
    "cas": [w(1, (1, 2)), cas(1, 2, True, (3, 4)), cas(1, 3, False, (5, 6)), r(2, (7, 8))],
    "cas from nothing": [cas(None, 2, True, (1, 2)), r(2, (3, 4))],
    "a cas that an unseen unknown write refused": [
        w(1, (1, 2)),
        unknown(2, "write", ("x", 7), at=(3, 4)),
        cas(1, 2, False, (5, 6)),
    ],
    "an unknown cas in a chain": [
        w(1, (1, 2)),
        unknown(3, "cas", ("x", 1, 2), at=(3, 4)),
        unknown(3, "cas", ("x", 2, 3), at=(5, 6)),
        r(3, (7, 8)),
    ],
    "a failed cas writes nothing": [
        w(1, (1, 2)),
        failed(3, "cas", ("x", 1, 2), at=(3, 4)),
        r(1, (5, 6)),
    ],
    "keys are apart": [w(1, (1, 2)), ok(2, "read", "y", None, at=(3, 4))],
    "one value written twice": [w(1, (1, 2)), w(2, (3, 4)), w(1, (5, 6)), r(1, (7, 8))],
    "a hidden write beside a refused cas": [
        w(5, (1, 2)),
        w(7, (3, 20)),
        w(5, (4, 6), 4),
        cas(5, 9, False, (10, 12)),
    ],
    "a refused cas after a write and a read of what it overwrote": [
        unknown(1, "write", ("x", 5), at=(1, 2)),
        w(7, (3, 20)),
        r(5, (4, 10)),
        cas(5, 9, False, (21, 22)),
    ],
}

BAD: dict[str, tuple[list[Operation], str]] = {
    "a stale read": ([w(1, (1, 2)), w(2, (3, 4)), r(1, (5, 6))], "cannot have happened"),
    "a lost write": ([w(1, (1, 2)), r(None, (3, 4))], "could be 1"),
    "a value from nowhere": ([r(9, (1, 2))], "nobody ever wrote"),
    "a failed write seen": (
        [failed(1, "write", ("x", 1), at=(1, 2)), r(1, (3, 4))],
        "only a failed operation",
    ),
    "a value from the future": ([r(1, (1, 2)), w(1, (3, 4))], "written later"),
    "back in time": ([w(1, (1, 9)), r(1, (2, 3)), r(None, (4, 5))], "cannot have happened"),
    "both writes last": (
        [w(1, (1, 5)), w(2, (2, 6), 3), r(1, (7, 8)), r(2, (9, 10))],
        "cannot have happened",
    ),
    "an unknown write taken back": (
        [unknown(1, "write", ("x", 1), at=(1, 2)), r(1, (3, 4)), r(None, (5, 6))],
        "pending then",
    ),
    "an unknown write done twice": (
        [
            unknown(1, "write", ("x", 1), at=(1, 2)),
            r(1, (3, 4)),
            w(2, (5, 6)),
            r(2, (7, 8)),
            r(1, (9, 10)),
        ],
        "cannot have happened",
    ),
    "an unknown write before it was asked for": (
        [r(1, (1, 2)), unknown(1, "write", ("x", 1), at=(3, 4))],
        "written later",
    ),
    "two cas from one value": (
        [w(1, (1, 2)), cas(1, 2, True, (3, 6)), cas(1, 3, True, (4, 7))],
        "cannot have happened",
    ),
    "a cas refused for nothing": ([w(1, (1, 2)), cas(1, 2, False, (3, 4))], "cannot have happened"),
    "a cas on a value that was not there": (
        [w(1, (1, 2)), cas(5, 2, True, (3, 4))],
        "cannot have happened",
    ),
    "true is not 1": ([w(1, (1, 2)), r(True, (3, 4))], "nobody ever wrote"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_are_good(name: str) -> None:
    assert check_register(GOOD[name]).findings == ()
    assert check_register(GOOD[name]).valid is True


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_are_bad(name: str) -> None:
    history, words = BAD[name]
    found = check_register(history)
    assert found.valid is False
    assert words in found.findings[0]


def test_the_finding_names_the_first_operation_that_has_no_place() -> None:
    history = [
        w(1, (1, 2)),
        r(1, (3, 4)),
        w(2, (5, 6)),
        r(1, (7, 8)),
        r(2, (9, 10)),
        r(1, (11, 12)),
    ]
    assert check_register(history).findings == (
        "key 'x': client 2 read 'x' -> 1 [7..8 ok] cannot have happened between its invocation and "
        "its answer\n"
        "  the 3 operations that returned before it can be put in order, after which the value "
        "could be 2\n"
        "  one such order ends with\n"
        "    client 1 write ('x', 1) -> None [1..2 ok]\n"
        "    client 2 read 'x' -> 1 [3..4 ok]\n"
        "    client 1 write ('x', 2) -> None [5..6 ok]",
    )


def test_every_broken_key_is_told() -> None:
    history = [ok(1, "read", key, 1, at=(1, 2)) for key in "abc"]
    assert len(check_register(history).findings) == 3


def test_a_search_without_end_is_undecided_and_not_passed() -> None:
    rng = Random(1)
    writes = [unknown(1, "write", ("x", rng.randrange(6)), at=(n, n)) for n in range(60)]
    hard = [ok(2, "cas", ("x", n % 6, n % 5), n % 2 == 0, at=(60, 90)) for n in range(20)]
    found = check_register([*writes, *hard], steps_max=2_000)
    assert found.valid is None
    assert "2000 steps" in found.findings[0]


def test_the_initial_value_is_a_choice() -> None:
    assert check_register([r(0, (1, 2))], initial=0).valid is True
    assert check_register([r(None, (1, 2))], initial=0).valid is False


def test_another_action_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown action"):
        check_register([ok(1, "append", ("x", 1), at=(1, 2))])


# --- against a naive search -----------------------------------------------------------------------


def linearizable(history: Sequence[Operation]) -> bool:
    """By trying every order of every choice of unknown operations. One key."""
    known = [op for op in history if op.outcome is Outcome.OK]
    unknowns = [op for op in history if op.outcome is Outcome.UNKNOWN and op.action != "read"]
    for chosen in range(1 << len(unknowns)):
        happened = known + [op for n, op in enumerate(unknowns) if chosen >> n & 1]
        if any(_replays(order) for order in permutations(happened)):
            return True
    return False


def _replays(order: Sequence[Operation]) -> bool:
    value: Any = None
    for place, operation in enumerate(order):
        if any(precedes(later, operation) for later in order[place + 1 :]):
            return False
        if operation.action == "read":
            if operation.result != value:
                return False
        elif operation.action == "write":
            value = operation.value[1]
        else:
            _, old, new = operation.value
            if operation.outcome is Outcome.UNKNOWN and value != old:
                return False  # chosen, but without effect: the same as not chosen
            if operation.outcome is Outcome.OK and operation.result != (value == old):
                return False
            value = new if value == old else value
    return True


def small_histories(seed: int, values: int, span: int) -> Iterator[list[Operation]]:
    rng = Random(seed)
    for _ in range(120):
        history = []
        for client in range(rng.randint(2, 6)):
            start = rng.randrange(span)
            at = (start, start + rng.randrange(1, 6))
            kind = rng.choice(["read", "read", "write", "cas"])
            old, new = rng.randrange(values), rng.randrange(values)
            if kind == "read":
                operation = ok(client, "read", "x", rng.choice([None, new]), at=at)
            elif kind == "write":
                operation = ok(client, "write", ("x", new), at=at)
            else:
                first = rng.choice([None, old])
                operation = ok(client, "cas", ("x", first, new), rng.random() < 0.6, at=at)
            if rng.random() < 0.25:
                operation = replace(operation, outcome=Outcome.UNKNOWN)
            history.append(operation)
        yield history


@pytest.mark.parametrize("span", [8, 14])
@pytest.mark.parametrize("values", [2, 3, 6])
def test_it_agrees_with_the_naive_search(values: int, span: int) -> None:
    seen = set()
    for seed in range(4):
        for history in small_histories(seed, values, span):
            expected = linearizable(history)
            seen.add(expected)
            assert check_register(history).valid is expected, history
    assert seen == {True, False}


# --- against a store ------------------------------------------------------------------------------


class Registers:
    """Registers that can answer reads from the past."""

    def __init__(self, random: Random, stale: float = 0.0) -> None:
        self.random, self.stale = random, stale
        self.values: dict[str, list[Any]] = {}

    def begin(self, action: str, value: Any) -> None:
        pass

    def done(self, action: str, value: Any, begun: None) -> Any:
        if action == "read":
            past = self.values.get(value, [None])
            if len(past) > 3 and self.random.random() < self.stale:
                return past[-3]
            return past[-1]
        past = self.values.setdefault(value[0], [None])
        if action == "cas" and past[-1] != value[1]:
            return False
        past.append(value[-1])
        return True if action == "cas" else None


def history_of(
    seed: int,
    operations: int,
    *,
    keys: int = 3,
    clients: int = 5,
    stale: float = 0.0,
    lies: Lies = HONEST,
) -> list[Operation]:
    rng = Random(seed)
    store = Registers(rng, stale)
    run = Clients(rng, store, clients, lies=lies)
    written = iter(range(1, 10**9))

    def ask(client: int) -> tuple[str, Any]:
        key = f"k{rng.randrange(keys)}"
        action = rng.choice(["read", "read", "write", "cas"])
        if action == "read":
            return action, key
        if action == "write":
            return action, (key, next(written))
        return action, (key, rng.choice([*store.values.get(key, []), None][-2:]), next(written))

    run.run(operations, ask)
    for key in range(keys):
        run.alone(0, "read", f"k{key}")
    return run.history


@pytest.mark.parametrize("seed", range(20))
def test_a_correct_store_passes(seed: int) -> None:
    found = check_register(history_of(seed, 200, clients=3 + seed % 7))
    assert found.findings == ()
    assert found.valid is True


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("stale", "lies"),
    [
        (0.05, Lies()),
        (0.0, Lies(forgotten=0.05)),
        (0.0, Lies(failed_but_done=1.0)),
        (0.0, Lies(done_again=0.1)),
    ],
    ids=["stale reads", "lost writes", "failed but done", "done twice"],
)
def test_a_broken_store_is_caught(seed: int, stale: float, lies: Lies) -> None:
    found = check_register(history_of(seed, 300, stale=stale, lies=lies))
    assert found.valid is False


def test_ten_thousand_operations_on_twenty_keys() -> None:
    history = history_of(7, 10_000, keys=20, clients=10)
    found = check_register(history)
    assert found.valid is True
    assert found.checked == len(history)


# --- a broken checker -----------------------------------------------------------------------------


def _sure_only(operations: Sequence[Operation]) -> Any:
    return _relevant([op for op in operations if op.outcome is Outcome.OK])


def _by_completion(search: Any) -> Any:
    sure = [step for step in search.steps if not step.unknown]
    sure.sort(key=lambda step: step.operation.completed)
    return [(step, returns) for step in sure for returns in (False, True)]


_relevant = register._relevant
MUTATIONS: dict[str, tuple[Any, str, Any]] = {
    "any value will do": (register._Step, "possible", lambda step, value: True),
    "unknown is never": (register, "_relevant", _sure_only),
    "nothing is concurrent": (register._Search, "_events", _by_completion),
    "nobody will look": (register._Masks, "of", staticmethod(lambda steps: register._Masks())),
    "one write at a time": (register._Search, "_writes", lambda search, configuration: iter(())),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_checker_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*MUTATIONS[name])
    cases = [(history, True) for history in GOOD.values()]
    cases += [(history, False) for history, _ in BAD.values()]
    assert any(_verdict(history) is not right for history, right in cases)


def _verdict(history: list[Operation]) -> bool | None:
    try:
        return check_register(history).valid
    except AssertionError:
        return None
