"""What the storage costs inside the engine: medians of single operations, in microseconds.

Run from the repository: ``python benchmarks/storage.py``. No cluster, no Bolt, one thread.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from graph.digest import digest
from graph.indexes import ConstraintSpec
from graph.snapshot import read_snapshot, write_snapshot
from graph.store import IdAllocator, Root
from graph.vector import Vector
from graph.write_set import WriteSet
from graph.write_set_codec import decode, encode

NODES = 100_000
RELATIONSHIPS = 1_200_000


def median_us(run: Callable[[Any], Any], prepare: Callable[[], Any], repeats: int) -> float:
    """Median microseconds of ``run(prepare())``; the preparation is not timed."""
    samples = []
    for _ in range(repeats):
        argument = prepare()
        start = time.perf_counter_ns()
        run(argument)
        samples.append((time.perf_counter_ns() - start) / 1_000)
    return statistics.median(samples)


def show(what: str, us: float, rows: int = 1) -> None:
    rate = f"{rows / us:10.2f} M rows/s" if rows > 1 else ""
    print(f"{what:62s} {us:12.2f} us {rate}")


def graph() -> tuple[Root, IdAllocator]:
    random = np.random.default_rng(7)
    root = Root.empty()
    write_set = WriteSet()
    write_set.create_constraint(ConstraintSpec("User", ("id",)))
    root.apply(write_set)
    ids = IdAllocator(0, 0)
    first = ids.nodes(NODES)
    write_set = WriteSet()
    properties = {
        "id": Vector.from_values(list(range(NODES))),
        "age": Vector.from_values(random.integers(0, 100, NODES).tolist()),
        "name": Vector.from_values([f"user {number}" for number in range(NODES)]),
    }
    write_set.create_nodes(np.arange(first, first + NODES), ("User",), properties)
    edges = ids.relationships(RELATIONSHIPS)
    write_set.create_relationships(
        np.arange(edges, edges + RELATIONSHIPS),
        "FRIEND",
        random.integers(0, NODES, RELATIONSHIPS),
        random.integers(0, NODES, RELATIONSHIPS),
        {},
    )
    start = time.perf_counter()
    root.apply(write_set)
    print(
        f"load: {NODES} nodes, {RELATIONSHIPS} relationships: {time.perf_counter() - start:.2f} s"
    )
    return root, ids


def one_node(ids: IdAllocator, number: int) -> WriteSet:
    write_set = WriteSet()
    node = np.array([ids.nodes(1)])
    properties = {"id": Vector.from_values([number]), "name": Vector.from_values([f"n{number}"])}
    write_set.create_nodes(node, ("User",), properties)
    return write_set


def many_nodes(ids: IdAllocator, rows: int) -> WriteSet:
    write_set = WriteSet()
    first = ids.nodes(rows)
    properties = {
        "age": Vector.of(Vector.from_values([1]).kind, np.arange(rows)),
        "weight": Vector.from_values([float(row) for row in range(rows)]),
    }
    write_set.create_nodes(np.arange(first, first + rows), ("Item",), properties)
    return write_set


def many_relationships(ids: IdAllocator, rows: int, random: Any) -> WriteSet:
    write_set = WriteSet()
    first = ids.relationships(rows)
    ends = random.integers(0, NODES, (2, rows))
    write_set.create_relationships(np.arange(first, first + rows), "LIKES", ends[0], ends[1], {})
    return write_set


def one_relationship(ids: IdAllocator, random: Any) -> WriteSet:
    write_set = WriteSet()
    first = ids.relationships(1)
    ends = random.integers(0, NODES, 2)
    write_set.create_relationships([first], "LIKES", ends[:1], ends[1:], {})
    return write_set


def writes(root: Root, ids: IdAllocator) -> None:
    random = np.random.default_rng(11)
    numbers = iter(range(10**7, 2 * 10**7))
    fresh = lambda: one_node(ids, next(numbers))  # noqa: E731
    show("apply one node (2 properties, label, unique index)", median_us(root.apply, fresh, 3000))

    def forked(write_set: WriteSet) -> None:
        root.fork()
        root.apply(write_set)

    show("fork, then apply one node", median_us(forked, fresh, 1000))
    edge = lambda: one_relationship(ids, random)  # noqa: E731
    show("apply one relationship", median_us(root.apply, edge, 3000))

    def forked_edge(write_set: WriteSet) -> None:
        root.fork()
        root.apply(write_set)

    show("fork, then apply one relationship", median_us(forked_edge, edge, 1000))

    def set_one() -> WriteSet:
        write_set = WriteSet()
        write_set.set_node_property([random.integers(0, NODES)], "age", Vector.from_values([5]))
        return write_set

    show("apply one SET", median_us(root.apply, set_one, 3000))
    show("fork, then apply one SET", median_us(forked, set_one, 1000))
    show("fork", median_us(lambda _: root.fork(), lambda: None, 2000))
    rows = 10_000
    show("apply 10,000 nodes", median_us(root.apply, lambda: many_nodes(ids, rows), 15), rows)
    bulk = lambda: many_relationships(ids, rows, random)  # noqa: E731
    show("apply 10,000 relationships", median_us(root.apply, bulk, 15), rows)
    show("encode one node", median_us(encode, fresh, 3000))
    show("decode one node", median_us(decode, lambda: encode(fresh()), 3000))
    show("encode 10,000 nodes", median_us(encode, lambda: many_nodes(ids, rows), 15), rows)


def reads(root: Root) -> None:
    random = np.random.default_rng(13)
    one = lambda: random.integers(0, NODES, 1)  # noqa: E731
    batch = lambda: random.integers(0, NODES, 2048)  # noqa: E731
    near = lambda: np.arange(2048) + int(random.integers(0, NODES - 2048))  # noqa: E731
    index = root.find_index("User", ("id",))
    assert index is not None
    show(
        "node_property, one row (integer)",
        median_us(lambda ids: root.node_property(ids, "age"), one, 3000),
    )
    show(
        "node_property, one row (string)",
        median_us(lambda ids: root.node_property(ids, "name"), one, 3000),
    )
    show("node(id)", median_us(root.node, lambda: int(one()[0]), 3000))
    show(
        "index_lookup, one probe",
        median_us(lambda value: root.index_lookup(index, value), lambda: [(int(one()[0]),)], 3000),
    )
    show("expand, one node", median_us(lambda ids: root.expand(ids, "out", ("FRIEND",)), one, 3000))
    show(
        "expand, one node, both, any type",
        median_us(lambda ids: root.expand(ids, "both"), one, 3000),
    )
    for what, ids in (("random", batch), ("near", near)):
        show(
            f"node_property, 2,048 rows, {what} (integer)",
            median_us(lambda ids: root.node_property(ids, "age"), ids, 500),
            2048,
        )
        show(
            f"node_property, 2,048 rows, {what} (string)",
            median_us(lambda ids: root.node_property(ids, "name"), ids, 500),
            2048,
        )
        show(
            f"has_label, 2,048 rows, {what}",
            median_us(lambda ids: root.has_label(ids, "User"), ids, 500),
            2048,
        )
        edges = len(root.expand(ids(), "out", ("FRIEND",))[0])
        show(
            f"expand, 2,048 nodes, {what}, {edges} relationships",
            median_us(lambda ids: root.expand(ids, "out", ("FRIEND",)), ids, 300),
            edges,
        )
    show(
        "expand, 2,048 nodes, random, both, all types",
        median_us(lambda ids: root.expand(ids, "both"), batch, 100),
        2 * edges,
    )
    probes = lambda: [(value,) for value in batch().tolist()]  # noqa: E731
    show(
        "index_lookup, 2,048 probes",
        median_us(lambda values: root.index_lookup(index, values), probes, 50),
        2048,
    )
    show(
        "scan_nodes(label), 2,048 rows",
        median_us(lambda start: root.scan_nodes("User", start, 2048), lambda: int(one()[0]), 500),
        2048,
    )


def images(root: Root) -> None:
    start = time.perf_counter()
    image = list(write_snapshot(root.fork()))
    written = time.perf_counter()
    size = sum(map(len, image)) / 1e6
    restored = read_snapshot(image)
    read = time.perf_counter()
    print(f"snapshot: {size:.1f} MB, write {written - start:.2f} s, read {read - written:.2f} s")
    assert digest(restored) == digest(root)
    print(f"digest (twice): {time.perf_counter() - read:.2f} s")
    print(f"memory: {root.memory_bytes() / 1e6:.0f} MB (estimate)")


def main() -> None:
    root, ids = graph()
    gc.freeze()
    reads(root)
    writes(root, ids)
    print("after the writes:")
    reads(root.fork())
    images(root)


if __name__ == "__main__":
    main()
