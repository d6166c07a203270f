"""Speeds of the engine alone, without Bolt, Raft or disk: medians in microseconds.

``python benchmarks/engine_quick.py``. Each figure is the median of many runs in this process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from neo4j.time import DateTime

from graph.engine import Engine, Transaction, run_batch
from graph.store import IdAllocator, Root

_NOW = DateTime(2024, 1, 1)
_RANDOM = Random(2)
_USERS = 10_000
_FRIENDS = 121_716


class Bench:
    """A graph of users who follow one another, and clocks."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.root = Root.empty()
        self.allocator = IdAllocator(0, 0)
        self.random = Random(1)

    def run(self, text: str, **parameters: Any) -> list[tuple[Any, ...]]:
        transaction = Transaction(self.engine, self.root, self.allocator, now=_NOW, random=_RANDOM)
        rows = transaction.run(self.engine.prepare(text), parameters).rows()
        self.root = transaction.root
        return rows

    def read(self, text: str, **parameters: Any) -> list[tuple[Any, ...]]:
        transaction = Transaction(
            self.engine, self.root, self.allocator, now=_NOW, random=_RANDOM, read_only=True
        )
        return transaction.run(self.engine.prepare(text), parameters).rows()

    def batch(self, text: str, parameters: Sequence[dict[str, Any]]) -> None:
        prepared = self.engine.prepare(text)
        requests = [(prepared, values) for values in parameters]
        outcome = run_batch(
            self.engine, self.root, self.allocator, requests, now=_NOW, random=_RANDOM
        )
        self.root = outcome.root

    def measure(
        self, name: str, action: Callable[[int], object], rounds: int, per: int = 1
    ) -> None:
        times: list[float] = []
        action(-1)
        for number in range(rounds):
            begin = time.perf_counter()
            action(number)
            times.append(time.perf_counter() - begin)
        print(f"{name:58} {median(times) * 1e6 / per:12.1f} us")


def prepare(bench: Bench) -> None:
    bench.run("CREATE CONSTRAINT FOR (n:User) REQUIRE n.id IS UNIQUE")
    rows = [
        {"id": i, "name": f"user {i}", "age": bench.random.randrange(90)}
        for i in range(1, _USERS + 1)
    ]
    bench.run("UNWIND $rows AS r CREATE (:User {id: r.id, name: r.name, age: r.age})", rows=rows)
    pairs = [
        {"a": bench.random.randint(1, _USERS), "b": bench.random.randint(1, _USERS)}
        for _ in range(_FRIENDS)
    ]
    for start in range(0, len(pairs), 10_000):
        bench.run(
            "UNWIND $rows AS r MATCH (a:User {id: r.a}), (b:User {id: r.b}) "
            "CREATE (a)-[:Friend]->(b)",
            rows=pairs[start : start + 10_000],
        )


def points(bench: Bench) -> None:
    read = "MATCH (n:User {id: $id}) RETURN n.name"
    bench.measure("point read, one", lambda i: bench.read(read, id=i % 10_000 + 1), 3000)
    bench.measure(
        "point read, batch of 64, each",
        lambda i: bench.batch(read, [{"id": (i * 64 + k) % 10_000 + 1} for k in range(64)]),
        300,
        64,
    )
    whole = "MATCH (n:User {id: $id}) RETURN n"
    bench.measure("point read of a whole node", lambda i: bench.read(whole, id=i % 9_999 + 1), 3000)
    literal = "MATCH (n:User {{id: {}}}) RETURN n.name"
    bench.measure(
        "point read, literal in the text", lambda i: bench.read(literal.format(i + 5)), 900
    )
    create = "CREATE (:User {id: $id, name: $name})"
    bench.measure("create, one", lambda i: bench.run(create, id=100_000 + i, name=f"new {i}"), 3000)
    bench.measure(
        "create, batch of 64, each",
        lambda i: bench.batch(
            create, [{"id": 1_000_000 + i * 64 + k, "name": "b"} for k in range(64)]
        ),
        300,
        64,
    )
    update = "MATCH (n:User {id: $id}) SET n.property = -1"
    bench.measure("update by index, one", lambda i: bench.run(update, id=i % 9_999 + 1), 2000)
    bench.measure(
        "update by index, batch of 64, each",
        lambda i: bench.batch(update, [{"id": (i * 64 + k) % 9_999 + 1} for k in range(64)]),
        300,
        64,
    )
    edge = "MATCH (a:User {id: $a}), (b:User {id: $b}) CREATE (a)-[:Temp]->(b)"
    bench.measure("edge by index, one", lambda i: bench.run(edge, a=i % 99 + 1, b=7), 2000)
    merge = "MERGE (n:User {id: $id}) ON CREATE SET n.x = 1 ON MATCH SET n.x = 2"
    bench.measure("merge by index, one", lambda i: bench.run(merge, id=i % 9_999 + 1), 2000)


def analysis(bench: Bench) -> None:
    for name, text in (
        ("expansion 1", "MATCH (s:User {id: $id})-->(n:User) RETURN n.id"),
        ("expansion 2 distinct", "MATCH (s:User {id: $id})-->()-->(n:User) RETURN DISTINCT n.id"),
        (
            "expansion 3 distinct",
            "MATCH (s:User {id: $id})-->()-->()-->(n:User) RETURN DISTINCT n.id",
        ),
        (
            "expansion 4 distinct",
            "MATCH (s:User {id: $id})-->()-->()-->()-->(n:User) RETURN DISTINCT n.id",
        ),
        ("neighbours 2", "MATCH (s:User {id: $id})-[*1..2]->(n:User) RETURN DISTINCT n.id"),
        ("aggregate", "MATCH (n:User) RETURN n.age, count(*)"),
        ("aggregate filter", "MATCH (n:User) WHERE n.age >= 18 RETURN n.age, count(*)"),
        ("min max avg", "MATCH (n) RETURN min(n.age), max(n.age), avg(n.age)"),
        ("pattern cycle", "MATCH (n:User {id: $id})-[e1]->(m)-[e2]->(n) RETURN e1, m, e2"),
        (
            "pattern long",
            "MATCH (n1:User {id: $id})-[e1]->(n2)-[e2]->(n3)-[e3]->(n4)<-[e4]-(n5) "
            "RETURN n5 LIMIT 1",
        ),
        (
            "shortest path",
            "MATCH (n:User {id: $id}), (m:User {id: $to}) "
            "MATCH p = shortestPath((n)-[*..15]->(m)) RETURN length(p)",
        ),
        ("top 10 of all", "MATCH (n:User) RETURN n.id ORDER BY n.age DESC LIMIT 10"),
    ):
        bench.measure(
            name,
            lambda i, text=text: bench.read(text, id=i % 9_999 + 1, to=(i * 7) % 9_999 + 1),
            30,
        )


def bulk(bench: Bench) -> None:
    rows = [
        {"name": f"p{i}", "a": f"p{i * 7 % 10_000}", "b": f"p{i * 13 % 10_000}"}
        for i in range(10_000)
    ]
    fresh = Bench()
    create = "UNWIND $rows AS r CREATE (:P {name: r.name})"
    fresh.measure("UNWIND 10,000 CREATE, whole", lambda i: fresh.run(create, rows=rows), 10)
    fresh = Bench()
    fresh.run("CREATE CONSTRAINT FOR (n:P) REQUIRE n.name IS UNIQUE")
    fresh.run(create, rows=rows)
    fresh.measure(
        "UNWIND 10,000 MATCH MATCH MERGE, whole",
        lambda i: fresh.run(_edges("MERGE"), rows=rows),
        10,
    )
    fresh.measure(
        "UNWIND 10,000 MATCH MATCH CREATE, whole",
        lambda i: fresh.run(_edges("CREATE"), rows=rows),
        10,
    )
    merge = "UNWIND $rows AS r MERGE (p:P {name: r.name}) SET p.seen = true"
    fresh.measure("UNWIND 10,000 MERGE node, whole", lambda i: fresh.run(merge, rows=rows), 10)


def _edges(word: str) -> str:
    return f"UNWIND $rows AS r MATCH (a:P {{name: r.a}}), (b:P {{name: r.b}}) {word} (a)-[:D]->(b)"


def main() -> None:
    bench = Bench()
    begin = time.perf_counter()
    prepare(bench)
    print(f"{'prepared graph in':58} {(time.perf_counter() - begin) * 1e6:12.1f} us")
    points(bench)
    analysis(bench)
    bulk(bench)


if __name__ == "__main__":
    main()
