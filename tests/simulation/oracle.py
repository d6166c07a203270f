"""What clients heard against what is there at the end: cheap checks that read the history once.

An acknowledged write is there, once; a refused one is not; an unknown one is there at most once.
Lists tell more: whatever was read of one was a beginning of what it is now, and never shorter than
what had been read or appended before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tests.checkers.history import Operation, Outcome, shown
from tests.simulation.world import SimulationFailure

__all__ = ["judge"]

Rows = list[list[Any]]


def judge(history: Sequence[Operation], found: dict[str, Rows]) -> None:
    """Raises ``SimulationFailure`` for the first thing that cannot be."""
    by_action: dict[str, list[Operation]] = {}
    for operation in history:
        by_action.setdefault(operation.action, []).append(operation)
    _judge_set("elements", by_action.get("add", []), [row[0] for row in found["elements"]])
    _judge_blobs(by_action.get("blob", []), found["blobs"])
    _judge_users(by_action.get("upsert", []), found["users"])
    _judge_known(by_action, found["knows"])
    _judge_registers(history, found["registers"])
    _judge_lists(by_action.get("transaction", []), found["lists"])
    _judge_local_reads(history, found["lists"])


def _fail(check: str, text: str) -> None:
    raise SimulationFailure("correctness", check, text)


def _judge_set(name: str, added: Iterable[Operation], found: Iterable[Any]) -> None:
    """Acknowledged ones once, refused ones never, unknown ones at most once, no others."""
    times = Counter(found)
    for operation in added:
        count = times.pop(operation.value, 0)
        _judge_count(name, operation, count)
    if times:
        _fail("Phantom", f"{name} {sorted(times)} were never written")


def _judge_count(name: str, operation: Operation, count: int) -> None:
    if count > 1:
        _fail("Exactly once", f"{name}: {count} times there: {shown(operation)}")
    if operation.outcome is Outcome.OK and not count:
        _fail("Acknowledged write lost", f"{name}: {shown(operation)}")
    if operation.outcome is Outcome.FAILED and count:
        _fail("Failed write appears", f"{name}: {shown(operation)}")


def _judge_blobs(blobs: Iterable[Operation], found: Rows) -> None:
    from tests.simulation.clients import BLOB_NODES

    for identity, parts in found:
        if parts != BLOB_NODES:
            _fail("All or nothing", f"{parts} of {BLOB_NODES} parts of blob {identity} are there")
    _judge_set("blobs", blobs, [row[0] for row in found])


def _judge_users(upserts: Sequence[Operation], found: Rows) -> None:
    """One user for a name; each merge counted once."""
    names = [row[0] for row in found]
    if len(set(names)) != len(names):
        _fail("Uniqueness", f"two users of one name: {names}")
    merged: list[Any] = []
    for name, count, by, *_ in found:
        if count != len(by):
            _fail("Uniqueness", f"user {name} was merged {count} times, by {by}")
        merged += [(name, identity) for identity in by]
    _judge_set("upserts", upserts, merged)


def _judge_known(by_action: dict[str, list[Operation]], found: Rows) -> None:
    """Relationships are seen whole, from both ends, and only those that somebody made.

    One that is not there may have been deleted; or there were no such users.
    """
    made = by_action.get("knows", [])
    reads = [o.result for o in by_action.get("known", []) if o.outcome is Outcome.OK]
    for rows in (*reads, found):
        for outs, out, ins, into in rows:
            if len(out) != outs or len(into) != ins:
                _fail("Half-written", f"relationships without their id: {rows}")
        there = Counter(x for _, out, _, _ in rows for x in out)
        if there != Counter(x for _, _, _, into in rows for x in into):
            _fail("Adjacency", f"relationships differ from their two ends: {rows}")
        _judge_made(made, there)


def _judge_made(made: Sequence[Operation], there: Counter[Any]) -> None:
    for operation in made:
        count = there.pop(operation.value, 0)
        if count > 1:
            _fail("Exactly once", f"relationships: {count} times there: {shown(operation)}")
        if operation.outcome is Outcome.FAILED and count:
            _fail("Failed write appears", f"relationships: {shown(operation)}")
    if there:
        _fail("Phantom", f"relationships {sorted(there)} were never made")


def _judge_registers(history: Sequence[Operation], found: Rows) -> None:
    """The last value was written by somebody, and by nobody who was overwritten for certain."""
    for key, value in found:
        writes = [
            o
            for o in history
            if (o.action == "write" and o.value[0] == key)
            or (o.action == "cas" and o.value[0] == key and o.result is not False)
        ]
        done = [o for o in writes if o.outcome is Outcome.OK]
        if value is None:
            if done:
                _fail("Acknowledged write lost", f"register {key} is empty: {shown(done[0])}")
            continue
        writer = next((o for o in writes if o.value[-1] == value), None)
        if writer is None:
            _fail("Phantom", f"register {key} holds {value}, which nobody wrote")
            continue
        if writer.outcome is Outcome.FAILED:
            _fail("Failed write appears", f"register {key}: {shown(writer)}")
        if writer.outcome is Outcome.OK:
            for other in done:
                if other.action == "write" and other.invoked > writer.completed:
                    _fail(
                        "Acknowledged write lost",
                        f"register {key} holds {value}, but {shown(other)} came later",
                    )


def _judge_lists(transactions: Sequence[Operation], found: Rows) -> None:
    final = {key: list(items) for key, items in found}
    appended: dict[int, list[Any]] = {key: [] for key in final}
    for operation in transactions:
        for action, key, x in operation.value:
            if action == "append":
                appended[key].append(x)
                _judge_count(f"list {key}", operation, final[key].count(x))
    for key, items in final.items():
        extra = set(items).difference(appended[key])
        if extra:
            _fail("Phantom", f"list {key} has {sorted(extra)}, which nobody appended")
    _judge_reads(transactions, final)


def _judge_local_reads(history: Sequence[Operation], found: Rows) -> None:
    """A server's own state is a beginning too, and has all that its client has seen before."""
    final = {key: list(items) for key, items in found}
    seen: dict[tuple[int, int], int] = {}
    for operation in sorted(history, key=lambda operation: operation.completed):
        if operation.outcome is not Outcome.OK:
            continue
        client = operation.client
        if operation.action == "transaction" and len(operation.value) == 1:
            for action, key, items in operation.result:
                if action == "read":
                    seen[client, key] = max(seen.get((client, key), 0), len(items))
        elif operation.action == "local read":
            key, items = operation.value, operation.result
            if list(items) != final[key][: len(items)]:
                _fail("Not a beginning", f"list {key} is {final[key]}: {shown(operation)}")
            if len(items) < seen.get((client, key), 0):
                _fail("Session", f"{seen[client, key]} items were seen before {shown(operation)}")
            seen[client, key] = len(items)


def _judge_reads(transactions: Sequence[Operation], final: dict[int, list[Any]]) -> None:
    """Whatever was read is a beginning of the list, and reads never go back in time."""
    read: dict[int, list[tuple[Operation, int]]] = {key: [] for key in final}
    for operation in transactions:
        if operation.outcome is not Outcome.OK:
            continue
        for action, key, items in operation.result:
            if action != "read":
                continue
            own = {x for a, k, x in operation.value if a == "append" and k == key}
            length = len(items)
            while length and items[length - 1] in own:
                length -= 1
            if list(items[:length]) != final[key][:length]:
                _fail("Not a beginning", f"list {key} is {final[key]}: {shown(operation)}")
            read[key].append((operation, length))
    for key, reads in read.items():
        for operation, length in reads:
            longest = max((n for o, n in reads if o.completed < operation.invoked), default=0)
            if length < longest:
                _fail("Stale read", f"list {key} had {longest} items before {shown(operation)}")
