"""The upsert checker: by hand, and with a store that merges badly."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tests.checkers import upsert as checker
from tests.checkers.history import Operation
from tests.checkers.making import failed, ok, unknown
from tests.checkers.simulated import HONEST, Clients, Lies
from tests.checkers.upsert import check_upsert


def put(
    prop: str, value: int, at: tuple[int, int], node: Any = "n", created: Any = None
) -> Operation:
    return ok(1, "upsert", ("k", prop, value), (node, created), at=at)


def read(*nodes: tuple[Any, ...], at: tuple[int, int], key: Any = None) -> Operation:
    return ok(2, "read", key, nodes, at=at)


def n(name: str, **properties: Any) -> tuple[Any, ...]:
    return (name, "k", tuple(properties.items()))


GOOD: dict[str, list[Operation]] = {
    "empty": [],
    "a read of nothing": [read(at=(1, 2))],
    "merged by two": [
        put("p", 1, (1, 2), created=True),
        put("q", 2, (3, 4), created=False),
        read(n("n", p=1, q=2), at=(5, 6)),
    ],
    "a value overwritten": [
        put("p", 1, (1, 2)),
        read(n("n", p=1), at=(3, 4)),
        put("p", 2, (5, 6)),
        read(n("n", p=2), at=(7, 8)),
    ],
    "concurrent values, either": [
        put("p", 1, (1, 5)),
        put("p", 2, (2, 6)),
        read(n("n", p=1), at=(7, 8)),
    ],
    "a read beside": [put("p", 1, (1, 9)), read(at=(2, 3)), read(n("n", p=1), at=(10, 11))],
    "unknown, and done late": [
        unknown(1, "upsert", ("k", "p", 1), at=(1, 2)),
        read(at=(3, 4)),
        read(n("n", p=1), at=(5, 6)),
    ],
    "an unknown value over an answered one": [
        unknown(1, "upsert", ("k", "p", 1), at=(1, 2)),
        put("p", 2, (3, 4)),
        read(n("n", p=2), at=(5, 6)),
        read(n("n", p=1), at=(7, 8)),
    ],
    "created by an unknown one": [
        unknown(1, "upsert", ("k", "p", 1), at=(1, 2)),
        put("q", 2, (3, 4), created=False),
        read(n("n", p=1, q=2), at=(5, 6)),
    ],
    "failed": [failed(1, "upsert", ("k", "p", 1), at=(1, 2)), read(at=(3, 4))],
    "looked up by key": [
        put("p", 1, (1, 2)),
        read(n("n", p=1), at=(3, 4), key="k"),
        read(at=(3, 4), key="other"),
        read(n("n", p=1), at=(5, 6)),
    ],
    "nodes are not told": [put("p", 1, (1, 2), node=None), read(n("n", p=1), at=(3, 4))],
}

BAD: dict[str, tuple[list[Operation], str]] = {
    "two nodes in a read": (
        [put("p", 1, (1, 2)), read(n("n", p=1), n("m", p=1), at=(3, 4))],
        "duplicate: key 'k' has nodes ['n', 'm']",
    ),
    "two nodes in answers": (
        [put("p", 1, (1, 2)), put("p", 2, (3, 4), node="m"), read(n("m", p=2), at=(5, 6))],
        "duplicate: key 'k' has had 2 nodes",
    ),
    "the node changed": (
        [put("p", 1, (1, 2)), read(n("n", p=1), at=(3, 4)), read(n("m", p=1), at=(5, 6))],
        "duplicate: key 'k' has had 2 nodes",
    ),
    "created twice": (
        [
            put("p", 1, (1, 2), created=True),
            put("p", 2, (3, 4), created=True),
            read(n("n", p=2), at=(5, 6)),
        ],
        "created twice",
    ),
    "created by nobody": (
        [put("p", 1, (1, 2), created=False), read(n("n", p=1), at=(3, 4))],
        "created by nobody",
    ),
    "lost": ([put("p", 1, (1, 2)), read(at=(3, 4))], "lost: key 'k'"),
    "not found by key": (
        [put("p", 1, (1, 2)), read(at=(3, 4), key="k"), read(n("n", p=1), at=(5, 6))],
        "lost: key 'k'",
    ),
    "another key found": (
        [put("p", 1, (1, 2)), read(n("n", p=1), at=(3, 4), key="j"), read(n("n", p=1), at=(5, 6))],
        "wrong key",
    ),
    "a property lost": (
        [put("p", 1, (1, 2)), put("q", 2, (3, 4)), read(n("n", p=1), at=(5, 6))],
        "lost property: key 'k' without ['q']",
    ),
    "an old value": (
        [put("p", 1, (1, 2)), put("p", 2, (3, 4)), read(n("n", p=1), at=(5, 6))],
        "wrong value",
    ),
    "a value of nobody": (
        [put("p", 1, (1, 2)), read(n("n", p=7), at=(3, 4))],
        "wrong value",
    ),
    "a property of nobody": (
        [put("p", 1, (1, 2)), read(n("n", p=1, q=2), at=(3, 4))],
        "wrong value",
    ),
    "a failed value": (
        [
            put("p", 1, (1, 2)),
            failed(1, "upsert", ("k", "p", 2), at=(3, 4)),
            read(n("n", p=2), at=(5, 6)),
        ],
        "wrong value",
    ),
    "a value of the future": (
        [
            put("p", 1, (1, 2)),
            read(n("n", p=2), at=(3, 4)),
            put("p", 2, (5, 6)),
            read(n("n", p=2), at=(7, 8)),
        ],
        "wrong value",
    ),
    "true is not 1": ([put("p", 1, (1, 2)), read(n("n", p=True), at=(3, 4))], "wrong value"),
    "half-written": ([put("p", 1, (1, 9)), read(n("n"), at=(2, 3))], "half-written"),
    "a key of nobody": ([read(n("n", p=1), at=(1, 2))], "phantom"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_are_good(name: str) -> None:
    found = check_upsert(GOOD[name])
    assert found.findings == ()
    assert found.valid is True


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_are_bad(name: str) -> None:
    history, words = BAD[name]
    found = check_upsert(history)
    assert found.valid is False
    assert any(finding.startswith(words) for finding in found.findings)


def test_without_a_final_read_there_is_no_verdict() -> None:
    assert check_upsert([put("p", 1, (1, 2))]).valid is None
    by_key = read(n("n", p=1), at=(3, 4), key="k")
    assert check_upsert([put("p", 1, (1, 2)), by_key]).valid is None


def test_local_reads_may_be_of_the_past() -> None:
    final = read(n("n", p=2, q=3), at=(17, 18))
    history = [
        put("p", 1, (1, 2)),
        local(at=(3, 4)),
        put("p", 2, (5, 6)),
        local(n("n", p=1), at=(7, 8)),
        put("q", 3, (9, 10)),
        local(n("n", p=2), at=(11, 12)),
    ]
    assert check_upsert([*history, final]).findings == ()
    assert check_upsert(history).valid is None
    for wrong in (n("m", p=2), n("n"), n("n", p=9), n("n", p=4)):
        found = check_upsert([*history, local(wrong, at=(13, 14)), final, put("p", 4, (15, 16))])
        assert found.valid is False


def local(*nodes: tuple[Any, ...], at: tuple[int, int]) -> Operation:
    return ok(3, "local-read", None, nodes, at=at)


class Nodes:
    """Nodes by key, with a choice of what is broken."""

    def __init__(self, random: Random, broken: str) -> None:
        self.random, self.broken = random, broken
        self.nodes: list[tuple[int, str, dict[str, int]]] = []
        self.past: list[Any] = [()]

    def begin(self, action: str, value: Any) -> dict[str, int]:
        return {key: node for node, key, _ in self.nodes}

    def done(self, action: str, value: Any, begun: dict[str, int]) -> Any:
        wrong = self.random.random() < 0.2
        if action == "read":
            return self.past[-9:][0] if wrong and self.broken == "stale" else self._shown()
        key, prop, new = value
        known = begun if self.broken == "no constraint" else self.begin("", None)
        created = key not in known
        if created:
            self.nodes.append((len(self.nodes), key, {}))
        node, _, properties = next(found for found in reversed(self.nodes) if found[1] == key)
        if wrong and self.broken == "lost properties":
            properties.clear()
        if not (created and self.broken == "half-written"):
            properties[prop] = new
        self.past.append(self._shown())
        return node, created

    def _shown(self) -> Any:
        return tuple((node, key, tuple(held.items())) for node, key, held in self.nodes)


def upserts_of(seed: int, broken: str = "", lies: Lies = HONEST) -> list[Operation]:
    rng = Random(seed)
    clients = Clients(rng, Nodes(rng, broken), failed=0.15, lies=lies)
    values = iter(range(10**9))
    asked = 0

    def ask(client: int) -> tuple[str, Any]:
        nonlocal asked
        asked += 1
        if asked > 30 and rng.random() < 0.2:
            return "read", None
        return "upsert", (f"k{asked // 8}", f"p{rng.randrange(4)}", next(values))

    clients.run(200, ask)
    clients.alone(0, "read", None)
    return clients.history


@pytest.mark.parametrize("seed", range(8))
def test_a_correct_store_passes(seed: int) -> None:
    found = check_upsert(upserts_of(seed))
    assert found.findings == ()
    assert found.valid is True


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("broken", ["stale", "no constraint", "lost properties", "half-written"])
def test_a_broken_store_is_caught(seed: int, broken: str) -> None:
    assert check_upsert(upserts_of(seed, broken)).valid is False


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "lies",
    [Lies(forgotten=0.2), Lies(failed_but_done=1.0)],
    ids=["lost", "failed but done"],
)
def test_a_lying_store_is_caught(seed: int, lies: Lies) -> None:
    assert check_upsert(upserts_of(seed, lies=lies)).valid is False


@pytest.mark.parametrize(
    ("owner", "name", "instead"),
    [
        (checker, "_wrong_with", lambda *_: []),
        (checker, "_wrong_with_node", lambda *_: []),
        (checker, "_answered", lambda *_: False),
        (checker, "precedes", lambda *_: False),
        (checker._Key, "wrong_with_nodes", lambda *_: []),
        (checker._Key, "must_have", lambda *_: set()),
    ],
)
def test_a_broken_checker_is_noticed(
    owner: Any, name: str, instead: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, instead)
    wrong = [check_upsert(history).valid is not True for history in GOOD.values()]
    wrong += [check_upsert(history).valid is not False for history, _ in BAD.values()]
    assert any(wrong)
