"""The session checker: by hand, and with replicas that lag behind."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tests.checkers import sessions as checker
from tests.checkers.history import Operation
from tests.checkers.making import failed, ok, unknown
from tests.checkers.sessions import check_sessions


def write(
    client: int, version: int, at: tuple[int, int], mark: Any = None, sent: tuple[Any, ...] = ()
) -> Operation:
    return ok(client, "write", ("x", version, sent), mark, at=at)


def read(
    client: int,
    version: int | None,
    at: tuple[int, int],
    mark: Any = None,
    sent: tuple[Any, ...] = (),
) -> Operation:
    return ok(client, "read", ("x", sent), (version, mark), at=at)


GOOD: dict[str, list[Operation]] = {
    "empty": [],
    "own writes": [write(1, 1, (1, 2)), read(1, 1, (3, 4))],
    "another's newer one": [write(1, 1, (1, 2)), write(2, 2, (3, 4)), read(1, 2, (5, 6))],
    "strangers may lag": [write(1, 1, (1, 2)), read(2, None, (3, 4))],
    "forward": [write(1, 1, (1, 2)), read(2, None, (3, 4)), read(2, 1, (5, 6))],
    "a bookmark": [write(1, 1, (1, 2), "b1"), read(2, 1, (3, 4), sent=("b1",))],
    "a bookmark from elsewhere": [write(1, 1, (1, 2)), read(2, None, (3, 4), sent=("?",))],
    "an unknown write": [
        unknown(1, "write", ("x", 1, ()), at=(1, 2)),
        read(1, None, (3, 4)),
        read(1, 1, (5, 6)),
    ],
    "a failed write": [failed(1, "write", ("x", 1, ()), at=(1, 2)), read(1, None, (3, 4))],
    "one after the other, at once": [write(1, 1, (1, 2)), read(1, 1, (2, 2)), read(1, 1, (2, 3))],
    "a bookmark that stood for less when it was sent": [
        read(1, None, (1, 2), "b"),
        read(2, None, (3, 4), sent=("b",)),
        write(3, 1, (1, 9), "b"),
    ],
}

BAD: dict[str, tuple[list[Operation], str]] = {
    "own write not seen": ([write(1, 1, (1, 2)), read(1, None, (3, 4))], "read your writes"),
    "older than the own write": (
        [write(2, 1, (1, 2)), write(1, 2, (3, 4)), read(1, 1, (5, 6))],
        "read your writes",
    ),
    "back in time": (
        [write(1, 1, (1, 2)), read(2, 1, (3, 4)), read(2, None, (5, 6))],
        "monotonic reads",
    ),
    "the bookmark ignored": (
        [write(1, 1, (1, 2), "b1"), read(2, None, (3, 4), sent=("b1",))],
        "causality",
    ),
    "the bookmark of a read ignored": (
        [write(1, 1, (1, 2)), read(2, 1, (3, 4), "b2"), read(3, None, (5, 6), sent=("b2",))],
        "causality",
    ),
    "over two bookmarks": (
        [
            write(1, 1, (1, 2), "b1"),
            ok(2, "write", ("y", 1, ("b1",)), "b2", at=(3, 4)),
            read(3, None, (5, 6), sent=("b2",)),
        ],
        "causality",
    ),
    "one bookmark of two": (
        [
            write(1, 1, (1, 2), "b"),
            ok(2, "write", ("y", 1, ()), "b", at=(1, 3)),
            read(3, None, (5, 6), sent=("b",)),
        ],
        "causality",
    ),
    "a version of nobody": ([read(1, 7, (1, 2))], "phantom"),
    "a failed version": (
        [failed(1, "write", ("x", 1, ()), at=(1, 2)), read(1, 1, (3, 4))],
        "failed write seen",
    ),
    "of the future": ([read(1, 1, (1, 2)), write(2, 1, (3, 4))], "written only later"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_are_good(name: str) -> None:
    found = check_sessions(GOOD[name])
    assert found.findings == ()
    assert found.valid is True


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_are_bad(name: str) -> None:
    history, words = BAD[name]
    found = check_sessions(history)
    assert found.valid is False
    assert found.findings[0].startswith(words)


def test_unchained_sessions_know_by_bookmarks_alone() -> None:
    own, _ = BAD["own write not seen"]
    assert check_sessions(own, chained=False).valid is True
    ignored, _ = BAD["the bookmark ignored"]
    assert check_sessions(ignored, chained=False).valid is False


def test_histories_that_the_workload_must_not_make_are_errors() -> None:
    with pytest.raises(ValueError, match="two things at a time"):
        check_sessions([read(1, None, (1, 5)), read(1, None, (3, 7))])
    with pytest.raises(ValueError, match="written twice"):
        check_sessions([write(1, 1, (1, 2)), write(2, 1, (3, 4))])


class Replicas:
    """A log and some servers that have applied part of it; a bookmark is a position."""

    def __init__(self, random: Random, waits: bool) -> None:
        self.random, self.waits = random, waits
        self.log: list[dict[str, int]] = [{}]
        self.applied = [0, 0, 0]

    def write(self, key: str) -> tuple[int, int]:
        version = self.log[-1].get(key, 0) + 1
        self.log.append({**self.log[-1], key: version})
        return version, len(self.log) - 1

    def read(self, key: str, sent: int) -> tuple[int | None, int]:
        server = self.random.randrange(len(self.applied))
        ahead = self.random.randint(self.applied[server], len(self.log) - 1)
        self.applied[server] = max(ahead, sent if self.waits else 0)
        position = self.applied[server]
        return self.log[position].get(key), position


def sessions_of(seed: int, *, waits: bool) -> list[Operation]:
    rng = Random(seed)
    store = Replicas(rng, waits)
    last = dict.fromkeys(range(4), 0)
    history = []
    for time in range(0, 900, 3):
        client, key = rng.randrange(4), rng.choice("xyz")
        at = (time, time + 1)
        sent = max(last[client], rng.choice(list(last.values())) if rng.random() < 0.3 else 0)
        others = () if sent <= last[client] else (sent,)
        if rng.random() < 0.4:
            version, last[client] = store.write(key)
            value: Any = (key, version, others)
            history.append(ok(client, "write", value, last[client], at=at))
        else:
            seen, position = store.read(key, sent)
            last[client] = max(position, sent)
            value = (key, others)
            history.append(ok(client, "read", value, (seen, last[client]), at=at))
    return history


@pytest.mark.parametrize("seed", range(8))
def test_replicas_that_wait_for_bookmarks_pass(seed: int) -> None:
    found = check_sessions(sessions_of(seed, waits=True))
    assert found.findings == ()
    assert found.valid is True


@pytest.mark.parametrize("seed", range(3))
def test_replicas_that_do_not_wait_are_caught(seed: int) -> None:
    found = check_sessions(sessions_of(seed, waits=False))
    assert found.valid is False
    names = {finding.split(":")[0] for finding in found.findings}
    assert {"read your writes", "monotonic reads"} <= names


@pytest.mark.parametrize("name", ["_phantom", "_stale", "_join", "_learn"])
def test_a_broken_checker_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, name, lambda *_: [])
    assert any(check_sessions(history).valid for history, _ in BAD.values())
