"""The list-append checker: every anomaly by hand, every order by force, stores with faults."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from random import Random
from typing import Any

import pytest

from tests.checkers import cycles
from tests.checkers.append import PROMISES, check_append
from tests.checkers.cycles import RT, RW, WR, WW, Graph, components, kind_names
from tests.checkers.history import Operation, precedes
from tests.checkers.making import failed, ok, unknown
from tests.checkers.simulated import HONEST, Clients, Lies, Refused

SERIAL, STRICT, SNAPSHOT, STRONG = PROMISES
ALL = frozenset(PROMISES)
REAL_TIME = frozenset({STRICT, STRONG})
NO_SKEW = frozenset({SERIAL, STRICT})


def a(key: str, element: Any) -> tuple[Any, ...]:
    return ("append", key, element)


def r(key: str, *elements: Any) -> tuple[Any, ...]:
    return ("read", key, elements)


def asked(steps: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple(step if step[0] == "append" else step[:2] for step in steps)


def t(*steps: tuple[Any, ...], at: tuple[int, int] = (1, 100), client: int = 1) -> Operation:
    """A transaction; reads are written with what they gave."""
    result = tuple(step[2] if step[0] == "read" else None for step in steps)
    return ok(client, "txn", asked(steps), result, at=at)


def lost(*steps: tuple[Any, ...], at: tuple[int, int] = (1, 2)) -> Operation:
    return unknown(9, "txn", asked(steps), at=at)


def refused(*steps: tuple[Any, ...], at: tuple[int, int] = (1, 2)) -> Operation:
    return failed(8, "txn", asked(steps), at=at)


GOOD: dict[str, list[Operation]] = {
    "empty": [],
    "one": [t(r("x"), a("x", 1), r("x", 1))],
    "in order": [
        t(a("x", 1), at=(1, 2)),
        t(r("x", 1), a("x", 2), at=(3, 4)),
        t(r("x", 1, 2), at=(5, 6)),
    ],
    "concurrent appends": [t(a("x", 1)), t(a("x", 2)), t(r("x", 2, 1), at=(101, 102))],
    "a concurrent read misses": [t(a("x", 1), at=(1, 9)), t(r("x"), at=(2, 3))],
    "touching times": [t(a("x", 1), at=(1, 2)), t(r("x"), at=(2, 3))],
    "unknown and seen late": [
        lost(a("x", 1)),
        t(r("x"), at=(3, 4)),
        t(r("x", 1), at=(9, 10)),
    ],
    "unknown and never seen": [lost(a("x", 1)), t(r("x"), at=(3, 4))],
    "unknown and seen by halves of keys": [
        lost(a("x", 1), a("y", 2)),
        t(r("x", 1), r("y", 2), at=(3, 4)),
    ],
    "failed and never seen": [refused(a("x", 1)), t(r("x"), at=(3, 4))],
    "a concurrent committed append that nobody saw": [
        t(a("x", 1), a("x", 2)),
        t(a("x", 3)),
        t(r("x", 1, 2)),
    ],
    "two reads of own appends": [
        t(a("x", 1), at=(1, 2)),
        t(a("x", 2), r("x", 1, 2), a("x", 3), r("x", 1, 2, 3), at=(3, 4)),
    ],
    "other keys": [t(a("x", 1), a("y", 1)), t(r("z"))],
    "a chain of reads backwards in history order": [
        t(r("x", 1, 2), at=(7, 8)),
        t(a("x", 2), at=(4, 5)),
        t(a("x", 1), at=(1, 2)),
    ],
}

# Of each anomaly: a history, what it is called, and which promises forbid it.
BAD: dict[str, tuple[list[Operation], str, frozenset[str]]] = {
    "duplicate": ([t(a("x", 1)), t(r("x", 1, 1))], "duplicate", ALL),
    "phantom": ([t(r("x", 7))], "phantom", ALL),
    "internal: own append missing": ([t(a("x", 1), r("x"))], "internal", ALL),
    "internal: own append not last": (
        [t(a("x", 2)), t(a("x", 1), r("x", 1, 2))],
        "internal",
        ALL,
    ),
    "internal: two reads differ": (
        [t(a("x", 1)), t(r("x"), r("x", 1))],
        "internal",
        ALL,
    ),
    "internal: read before appended": ([t(r("x", 1), a("x", 1))], "internal", ALL),
    "G1a": ([refused(a("x", 1)), t(r("x", 1), at=(3, 4))], "G1a", ALL),
    "G1b": ([t(a("x", 1), a("x", 2)), t(r("x", 1))], "G1b", ALL),
    "G1b of an unknown one": ([lost(a("x", 1), a("x", 2)), t(r("x", 1), at=(3, 4))], "G1b", ALL),
    "incompatible order": (
        [t(a("x", 1)), t(a("x", 2)), t(r("x", 1, 2)), t(r("x", 2, 1))],
        "incompatible-order",
        ALL,
    ),
    "a hole in the middle": (
        [t(a("x", 1)), t(a("x", 2)), t(r("x", 2)), t(r("x", 1, 2))],
        "incompatible-order",
        ALL,
    ),
    "G0": (
        [
            t(a("x", 1), a("y", 1)),
            t(a("x", 2), a("y", 2)),
            t(r("x", 1, 2), r("y", 2, 1), at=(101, 102)),
        ],
        "G0",
        ALL,
    ),
    "G0 within a key": (
        [t(a("x", 1), a("x", 3)), t(a("x", 2)), t(r("x", 1, 2, 3), at=(101, 102))],
        "G0",
        ALL,
    ),
    "G1c": ([t(a("x", 1), r("y", 1)), t(a("y", 1), r("x", 1))], "G1c", ALL),
    "G1c of ww and wr": (
        [
            t(a("x", 1), r("y", 2)),
            t(a("x", 2), a("y", 2)),
            t(r("x", 1, 2), at=(101, 102)),
        ],
        "G1c",
        ALL,
    ),
    "G-single": (
        [t(a("x", 1), a("y", 1)), t(r("x", 1), r("y")), t(r("y", 1), at=(101, 102))],
        "G-single",
        ALL,
    ),
    "lost update": (
        [t(r("x"), a("x", 1)), t(r("x"), a("x", 2)), t(r("x", 1, 2), at=(101, 102))],
        "lost-update",
        ALL,
    ),
    "lost update that nobody saw": (
        [t(r("x"), a("x", 1)), t(r("x"), a("x", 2))],
        "lost-update",
        ALL,
    ),
    "long fork": (
        [
            t(a("x", 1)),
            t(a("y", 1)),
            t(r("x", 1), r("y")),
            t(r("x"), r("y", 1)),
        ],
        "G-nonadjacent",
        ALL,
    ),
    "write skew": (
        [
            t(r("x"), a("y", 1)),
            t(r("y"), a("x", 1)),
            t(r("x", 1), r("y", 1), at=(101, 102)),
        ],
        "G2-item",
        NO_SKEW,
    ),
    "write skew that nobody saw": (
        [t(r("x"), a("y", 1)), t(r("y"), a("x", 1))],
        "G2-item",
        NO_SKEW,
    ),
    "three in a circle": (
        [t(r("x"), a("y", 1)), t(r("y"), a("z", 1)), t(r("z"), a("x", 1))],
        "G2-item",
        NO_SKEW,
    ),
    "a stale read": (
        [t(a("x", 1), at=(1, 2)), t(r("x"), at=(3, 4)), t(r("x", 1), at=(5, 6))],
        "G-single-realtime",
        REAL_TIME,
    ),
    "an acknowledged append that is gone": (
        [t(a("x", 1), at=(1, 2)), t(r("x"), at=(3, 4))],
        "G-single-realtime",
        REAL_TIME,
    ),
    "writes against real time": (
        [t(a("x", 1), at=(1, 2)), t(a("x", 2), at=(3, 4)), t(r("x", 2, 1), at=(5, 6))],
        "G0-realtime",
        REAL_TIME,
    ),
    "a read from the future": (
        [t(r("x", 1), at=(1, 2)), t(a("x", 1), at=(3, 4))],
        "G1c-realtime",
        REAL_TIME,
    ),
    "back in time": (
        [t(a("x", 1), at=(1, 9)), t(r("x", 1), at=(2, 3)), t(r("x"), at=(4, 5))],
        "G-single-realtime",
        REAL_TIME,
    ),
    "stale, through transactions in between": (
        [
            t(a("x", 1), at=(1, 2)),
            t(a("y", 1), at=(3, 4)),
            t(a("z", 1), at=(5, 6)),
            t(r("x"), at=(7, 8)),
        ],
        "G-single-realtime",
        REAL_TIME,
    ),
}


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("name", GOOD)
def test_good_histories_are_good(name: str, promise: str) -> None:
    found = check_append(GOOD[name], promise=promise)
    assert found.findings == ()
    assert found.valid is True


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("name", BAD)
def test_an_anomaly_has_its_name_where_it_is_forbidden(name: str, promise: str) -> None:
    history, anomaly, forbidden = BAD[name]
    found = check_append(history, promise=promise)
    assert found.valid is (promise not in forbidden)
    if promise in forbidden:
        assert found.findings[0].split(":")[0] == anomaly


def test_a_cycle_is_told_with_what_made_each_edge() -> None:
    history, _, _ = BAD["lost update"]
    assert check_append(history).findings == (
        "lost-update:\n"
        "  T1: client 1 txn (('read', 'x'), ('append', 'x', 2)) -> ((), None) [1..100 ok]\n"
        "  T2: client 1 txn (('read', 'x'), ('append', 'x', 1)) -> ((), None) [1..100 ok]\n"
        "  T1 read before T2 ('x': it read an empty list, the other appended 1 next)\n"
        "  T2 wrote before T1 ('x': 1 stands before 2)",
    )


def test_histories_that_the_workload_must_not_make_are_errors() -> None:
    with pytest.raises(ValueError, match="unknown promise"):
        check_append([], promise="linearizable")
    with pytest.raises(ValueError, match="twice"):
        check_append([t(a("x", 1)), t(a("x", 1))])
    with pytest.raises(ValueError, match="unknown step"):
        check_append([ok(1, "txn", (("write", "x", 1),), (None,), at=(1, 2))])
    with pytest.raises(ValueError, match="as many results"):
        check_append([ok(1, "txn", (a("x", 1),), (), at=(1, 2))])


@pytest.mark.parametrize("kind", [WW, WR, RW, RT], ids=kind_names)
def test_a_checker_without_a_kind_of_edge_is_noticed(
    kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Graph.add

    def without(graph: Graph, source: int, target: int, of: int) -> None:
        if of != kind:
            add(graph, source, target, of)

    monkeypatch.setattr(cycles.Graph, "add", without)
    missed = [
        name
        for name, (history, anomaly, forbidden) in BAD.items()
        for promise in forbidden
        if not _same_name(check_append(history, promise=promise).findings, anomaly)
    ]
    assert missed


@pytest.mark.parametrize(
    "method", ["components", "components_apart", "edges_within", "cycle_through"]
)
def test_a_checker_with_a_lazy_search_is_noticed(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cycles.Graph, method, lambda *_, **__: [])
    wrong = False
    for history, anomaly, forbidden in BAD.values():
        for promise in forbidden:
            try:
                found = check_append(history, promise=promise)
                wrong = wrong or not _same_name(found.findings, anomaly)
            except AssertionError:
                wrong = True
    assert wrong


def _same_name(findings: Sequence[str], anomaly: str) -> bool:
    return bool(findings) and findings[0].split(":")[0] == anomaly


def test_components_are_those_of_the_definition() -> None:
    rng = Random(5)
    for _ in range(50):
        edges = {n: [m for m in range(8) if m != n and rng.random() < 0.15] for n in range(8)}
        reach = {n: _reached(edges, n) for n in edges}
        wanted = {
            frozenset(m for m in edges if m == n or (m in reach[n] and n in reach[m]))
            for n in edges
        }
        found = {frozenset(component) for component in components(edges)}
        assert found == {component for component in wanted if len(component) > 1}


def _reached(edges: dict[int, list[int]], start: int) -> set[int]:
    seen: set[int] = set()
    stack = list(edges[start])
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack += edges[node]
    return seen


# --- against every order --------------------------------------------------------------------------
#
# A history whose last transaction reads every key hides no order of appends, so the checker must
# find exactly the histories that no order of (begins and) commits explains.


def serial(history: Sequence[Operation], real_time: bool) -> bool:
    """Whether some order of transactions, one after the other, gives what was read."""
    for order in permutations(history):
        if real_time and _against_time(order):
            continue
        state: dict[str, tuple[Any, ...]] = {}
        if all(_applies(operation, state, state) for operation in order):
            return True
    return False


def _against_time(order: Sequence[Operation]) -> bool:
    return any(
        precedes(later, earlier)
        for place, earlier in enumerate(order)
        for later in order[place + 1 :]
    )


def snapshot(history: Sequence[Operation], real_time: bool) -> bool:
    """Whether begins and commits can be ordered so that each reads its snapshot, first wins."""
    events = [(number, kind) for number in range(len(history)) for kind in ("begin", "commit")]

    def search(
        left: frozenset[tuple[int, str]],
        state: dict[str, tuple[Any, ...]],
        begun: dict[int, dict[str, tuple[Any, ...]]],
    ) -> bool:
        if not left:
            return True
        for event in left:
            number, kind = event
            operation = history[number]
            if kind == "begin":
                waits = any(
                    (other, "commit") in left and precedes(history[other], operation)
                    for other in range(len(history))
                )
                if real_time and waits:
                    continue
                if search(left - {event}, state, {**begun, number: state}):
                    return True
            elif number in begun:
                base = begun[number]
                after = dict(state)
                written = {step[1] for step in operation.value if step[0] == "append"}
                if any(base.get(key, ()) != state.get(key, ()) for key in written):
                    continue
                if _applies(operation, dict(base), after) and search(left - {event}, after, begun):
                    return True
        return False

    return search(frozenset(events), {}, {})


def _applies(
    operation: Operation,
    reads: dict[str, tuple[Any, ...]],
    writes: dict[str, tuple[Any, ...]],
) -> bool:
    """Run a transaction that reads the one state and writes to both."""
    for step, result in zip(operation.value, operation.result, strict=True):
        key = step[1]
        if step[0] == "read":
            if tuple(result) != reads.get(key, ()):
                return False
        else:
            reads[key] = (*reads.get(key, ()), step[2])
            if writes is not reads:
                writes[key] = (*writes.get(key, ()), step[2])
    return True


def small_history(rng: Random) -> list[Operation]:
    """Transactions that each read any earlier state, as if there were no isolation at all."""
    states: list[dict[str, tuple[Any, ...]]] = [{}]
    history = []
    for number in range(rng.choice((2, 3, 3, 3, 4))):
        base = dict(rng.choice(states[-3:]))
        steps: list[tuple[Any, ...]] = []
        newest = dict(states[-1])
        for _ in range(rng.randint(1, 3)):
            key = rng.choice("xy")
            if rng.random() < 0.5:
                element = 10 * number + len(steps)
                steps.append(a(key, element))
                base[key] = (*base.get(key, ()), element)
                newest[key] = (*newest.get(key, ()), element)
            else:
                steps.append(r(key, *base.get(key, ())))
        states.append(newest)
        start = rng.randrange(10)
        history.append(t(*steps, at=(start, start + rng.randrange(1, 8)), client=number))
    final = states[-1]
    history.append(t(*(r(key, *final.get(key, ())) for key in "xy"), at=(50, 51)))
    return history


@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_trying_every_order(seed: int) -> None:
    rng = Random(seed)
    seen = set()
    for _ in range(40):
        history = small_history(rng)
        for promise in PROMISES:
            real_time, skew = PROMISES[promise]
            right = (snapshot if skew else serial)(history, real_time)
            seen.add((promise, right))
            found = check_append(history, promise=promise)
            assert found.valid is right, (promise, history, found.findings)
    assert len(seen) == 8


# --- against a store ------------------------------------------------------------------------------


class Lists:
    """Lists under snapshot isolation, with switches that break it."""

    def __init__(
        self,
        random: Random,
        *,
        serial: bool = False,
        conflicts: bool = True,
        stale: float = 0.0,
        dirty: float = 0.0,
        again: bool = False,
    ) -> None:
        self.random = random
        self.serial, self.conflicts, self.stale, self.dirty = serial, conflicts, stale, dirty
        self.again = again
        self.states: list[dict[str, tuple[Any, ...]]] = [{}]

    def begin(self, action: str, value: Any) -> int:
        if self.random.random() < self.dirty:
            half = dict(self.states[-1])
            for _, key, element in [step for step in value if step[0] == "append"][:1]:
                half[key] = (*half.get(key, ()), element)
            self.states.append(half)
        past = 3 if len(self.states) > 3 and self.random.random() < self.stale else 1
        return len(self.states) - past

    def done(self, action: str, value: Any, begun: int) -> Any:
        base = dict(self.states[-1 if self.serial else begun])
        newest = dict(self.states[-1])
        writes = {step[1] for step in value if step[0] == "append"}
        if self.conflicts and any(base.get(key) != newest.get(key) for key in writes):
            raise Refused
        result: list[Any] = []
        for step in value:
            key = step[1]
            if step[0] == "read":
                result.append(base.get(key, ()))
                continue
            result.append(None)
            base[key] = (*base.get(key, ()), step[2])
            if self.again or step[2] not in newest.get(key, ()):
                newest[key] = (*newest.get(key, ()), step[2])
        if writes:
            self.states.append(newest)
        return tuple(result)


def history_of(
    seed: int, transactions: int, lies: Lies = HONEST, **switches: Any
) -> list[Operation]:
    rng = Random(seed)
    clients = Clients(rng, Lists(rng, **switches), lies=lies)
    elements = iter(range(10**9))
    asked = 0

    def ask(client: int) -> tuple[str, Any]:
        nonlocal asked
        asked += 1
        keys = [f"k{asked // 100}.{n}" for n in range(4)]
        steps = [
            a(rng.choice(keys), next(elements)) if rng.random() < 0.5 else r(rng.choice(keys))[:2]
            for _ in range(rng.randint(1, 4))
        ]
        return "txn", tuple(steps)

    clients.run(transactions, ask)
    names = {step[1] for operation in clients.history for step in operation.value}
    clients.alone(0, "txn", tuple(("read", key) for key in sorted(names)))
    return clients.history


@pytest.mark.parametrize("seed", range(10))
def test_correct_stores_pass(seed: int) -> None:
    weak = history_of(seed, 300)
    assert check_append(weak, promise=STRONG).findings == ()
    assert check_append(weak, promise=SNAPSHOT).valid is True
    strict = history_of(seed, 300, serial=True)
    for promise in PROMISES:
        assert check_append(strict, promise=promise).findings == ()


def test_snapshot_isolation_is_not_serializable() -> None:
    verdicts = [check_append(history_of(seed, 300), promise=SERIAL) for seed in range(5)]
    assert all(found.valid is False for found in verdicts)
    assert all(text.startswith("G2-item") for found in verdicts for text in found.findings[:20])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("lies", "switches"),
    [
        (HONEST, {"conflicts": False}),
        (HONEST, {"stale": 0.1}),
        (HONEST, {"dirty": 0.1}),
        (Lies(forgotten=0.1), {}),
        (Lies(failed_but_done=1.0), {"serial": True}),
        (Lies(done_again=0.1), {"serial": True, "again": True}),
    ],
    ids=["no conflicts", "stale", "dirty", "lost", "failed but done", "done twice"],
)
def test_broken_stores_are_caught(seed: int, lies: Lies, switches: dict[str, Any]) -> None:
    assert check_append(history_of(seed, 300, lies, **switches)).valid is False


def test_thousands_of_transactions() -> None:
    history = history_of(1, 3_000)
    assert check_append(history).valid is True
    assert check_append(history).checked == len(history)
