"""Roots that share pieces, used by several threads at once: nobody sees another's writes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from graph.digest import digest
from graph.indexes import ConstraintSpec
from graph.store import IdAllocator, Root
from graph.vector import Kind, Vector
from graph.write_set import WriteSet

NODES = 20_000


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """Make threads take turns as often as the interpreter can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def together(*works: Callable[[], None]) -> None:
    """Run all works in threads; raise what the first of them raised."""
    failures: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def loaded() -> Root:
    root = Root.empty()
    write_set = WriteSet()
    write_set.create_constraint(ConstraintSpec("N", ("k",)))
    root.apply(write_set)
    write_set = WriteSet()
    ids = np.arange(NODES)
    texts = [f"t{i}" for i in range(NODES)]
    properties = {"k": Vector.of(Kind.INT, ids), "t": Vector.from_values(texts)}
    write_set.create_nodes(ids, ("N",), properties)
    write_set.create_relationships(ids, "R", ids, ids[::-1], {})
    root.apply(write_set)
    return root


def test_readers_of_old_roots_while_the_head_is_written() -> None:
    head = loaded()
    ids = IdAllocator(head.next_node_id, head.next_relationship_id)
    published = [head.fork()]
    done = threading.Event()

    def write() -> None:
        for step in range(60):
            write_set = WriteSet()
            first = ids.nodes(2)
            properties = {"k": Vector.from_values([first, first + 1])}
            write_set.create_nodes([first, first + 1], ("N",), properties)
            touched = np.arange(step % 7, NODES, 997)
            values = Vector.from_values([f"step {step} {i}" for i in touched.tolist()])
            write_set.set_node_property(touched, "t", values)
            write_set.create_relationships([ids.relationships(1)], "R", [first], [step], {})
            write_set.delete_relationships([step])
            head.apply(write_set)
            published.append(head.fork())
        done.set()

    def read() -> None:
        random = np.random.default_rng(threading.get_ident() % 1000)
        while not done.is_set():
            root = published[-1]
            probe = random.integers(0, NODES, 300)
            texts = root.node_property(probe, "t").to_list()
            edges = root.expand(probe, "both")
            keys = root.node_property(probe, "k").to_list()
            assert keys == probe.tolist()
            index = root.find_index("N", ("k",))
            assert index is not None
            assert root.index_lookup_one(index, (int(probe[0]),)) == [int(probe[0])]
            assert len(root.scan_nodes("N", 0, NODES * 2)[0]) == root.node_count
            assert root.node_property(probe, "t").to_list() == texts
            again = root.expand(probe, "both")
            assert all((a == b).all() for a, b in zip(edges, again, strict=True))
            twin = root.fork()
            assert twin.node_property(probe, "t").to_list() == texts

    together(write, read, read)
    digests = [digest(root) for root in published]
    assert len(set(digests)) == len(digests)


def test_private_roots_written_at_once() -> None:
    """Explicit transactions in threads of their own share heaps and indexes with the head."""
    head = loaded()
    ids = IdAllocator(head.next_node_id, head.next_relationship_id)
    before = digest(head)
    results: dict[int, tuple[Root, list[WriteSet]]] = {}

    def transaction(number: int) -> Callable[[], None]:
        private = head.fork()

        def run() -> None:
            done = []
            for step in range(40):
                write_set = WriteSet()
                first = ids.nodes(5)
                new = np.arange(first, first + 5)
                texts = [f"{number} {step} {i}" for i in range(5)]
                properties = {"k": Vector.of(Kind.INT, new), "t": Vector.from_values(texts)}
                write_set.create_nodes(new, ("N",), properties)
                old = np.arange(number * 1000, number * 1000 + 50)
                write_set.set_node_property(old, "t", Vector.from_values([f"by {number}"] * 50))
                private.apply(write_set)
                done.append(write_set)
            results[number] = (private, done)

        return run

    together(*[transaction(number) for number in range(3)])
    assert digest(head) == before
    for number, (private, write_sets) in results.items():
        alone = loaded()
        for write_set in write_sets:
            alone.apply(write_set)
        assert digest(alone) == digest(private)
        assert private.node_property(np.array([number * 1000]), "t").to_list() == [f"by {number}"]
    whole = WriteSet()
    for _, write_sets in results.values():
        for write_set in write_sets:
            whole.extend(write_set)
    head.apply(whole)
    assert head.node_count == NODES + 3 * 40 * 5


def test_readers_that_build_flat_forms_at_once() -> None:
    root = loaded()
    before = digest(root)

    def read() -> None:
        random = np.random.default_rng(1)
        for _ in range(80):
            probe = random.integers(0, NODES, 200)
            assert root.node_property(probe, "k").to_list() == probe.tolist()
            rows, numbers, neighbours = root.expand(probe, "out")
            assert numbers.tolist() == probe.tolist()
            assert neighbours.tolist() == (NODES - 1 - probe).tolist()
            assert rows.tolist() == list(range(200))

    together(read, read, read)
    assert digest(root) == before
