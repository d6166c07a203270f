"""Many ids, real thresholds: flat forms, runs, hubs, sweeps; against NumPy and dictionaries."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from graph import adjacency, chunked
from graph.chunked import CHUNK_IDS, Chunked, Epoch, pieces
from graph.digest import digest
from graph.indexes import ConstraintSpec, IndexSpec
from graph.store import Root
from graph.vector import Kind, Vector
from graph.write_set import WriteSet

NODES = 40_000
EDGES = 120_000


@pytest.fixture(scope="module")
def edges() -> np.ndarray:
    return np.random.default_rng(5).integers(0, NODES, (2, EDGES))


@pytest.fixture(scope="module")
def loaded(edges: np.ndarray) -> Root:
    root = Root.empty()
    write_set = WriteSet()
    ids = np.arange(NODES)
    properties = {
        "n": Vector.of(Kind.INT, ids * 3),
        "s": Vector.from_values([f"s{i % 1000}" if i % 5 else None for i in range(NODES)]),
    }
    write_set.create_nodes(ids, ("N",), properties)
    write_set.add_label(ids[::3], "Third")
    half = EDGES // 2
    write_set.create_relationships(np.arange(half), "R", edges[0][:half], edges[1][:half], {})
    root.apply(write_set)
    for start in range(half, EDGES, 2_000):
        step = slice(start, start + 2_000)
        write_set = WriteSet()
        write_set.create_relationships(
            np.arange(start, start + 2_000), "R", edges[0][step], edges[1][step], {}
        )
        root.apply(write_set)
    return root


def expected_out(edges: np.ndarray, ids: np.ndarray, gone: set[int]) -> list[tuple[int, int, int]]:
    order = np.argsort(edges[0], kind="stable")
    starts = np.searchsorted(edges[0][order], ids, "left")
    ends = np.searchsorted(edges[0][order], ids, "right")
    return [
        (row, number, int(edges[1][number]))
        for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True))
        for number in order[start:end].tolist()
        if number not in gone
    ]


def triples(found: tuple[np.ndarray, ...]) -> list[tuple[int, ...]]:
    return list(zip(*(part.tolist() for part in found), strict=True))


def test_expand_stays_right_while_flat_forms_come_and_go(loaded: Root, edges: np.ndarray) -> None:
    random = np.random.default_rng(6)
    root = loaded.fork()
    gone: set[int] = set()
    added: list[np.ndarray] = []
    flats = set()
    for round_number in range(40):
        ids = random.integers(-2, NODES + 2, 700)
        everything = np.concatenate([edges, *added], axis=1)
        assert triples(root.expand(ids, "out")) == expected_out(everything, ids, gone)
        assert (
            root.degree(ids, "out").tolist()
            == np.bincount(root.expand(ids, "out")[0], minlength=len(ids)).tolist()
        )
        flats.add(id(root.outgoing[0]._flat))
        if round_number % 4 == 3:
            victims = random.integers(0, EDGES, 50)
            victims = np.array([v for v in victims.tolist() if v not in gone])
            gone.update(victims.tolist())
            first = everything.shape[1]
            new = random.integers(0, NODES, (2, 30))
            added.append(new)
            write_set = WriteSet()
            write_set.delete_relationships(victims)
            write_set.create_relationships(np.arange(first, first + 30), "R", new[0], new[1], {})
            root.apply(write_set)
    assert len(flats) > 2, "no flat form was made, or only one"


def test_properties_stay_right_while_flat_forms_come_and_go(loaded: Root) -> None:
    random = np.random.default_rng(7)
    root = loaded.fork()
    numbers: dict[int, int] = {}
    for round_number in range(60):
        ids = random.integers(-5, NODES + 5, 500)
        inside = [0 <= i < NODES for i in ids.tolist()]
        want = [
            numbers.get(i, i * 3) if ok else None
            for i, ok in zip(ids.tolist(), inside, strict=True)
        ]
        assert root.node_property(ids, "n").to_list() == want
        texts = [
            f"s{i % 1000}" if ok and i % 5 else None
            for i, ok in zip(ids.tolist(), inside, strict=True)
        ]
        assert root.node_property(ids, "s").to_list() == texts
        third = [ok and i % 3 == 0 for i, ok in zip(ids.tolist(), inside, strict=True)]
        assert root.has_label(ids, "Third").tolist() == third
        assert root.nodes_alive(ids).tolist() == inside
        if round_number % 5 == 4:
            changed = np.unique(random.integers(0, NODES, 20))
            write_set = WriteSet()
            write_set.set_node_property(changed, "n", Vector.of(Kind.INT, changed))
            root.apply(write_set)
            numbers.update(zip(changed.tolist(), changed.tolist(), strict=True))
    assert root.node_columns[0]._flat is not None
    assert loaded.node_property(np.array([0, NODES - 1]), "n").to_list() == [0, 3 * NODES - 3]


def test_a_hub_is_not_rewritten_for_each_new_relationship() -> None:
    root = Root.empty()
    write_set = WriteSet()
    write_set.create_nodes(np.arange(10), (), {})
    root.apply(write_set)
    count = 30_000
    for start in range(0, count, 100):
        write_set = WriteSet()
        ids = np.arange(start, start + 100)
        write_set.create_relationships(ids, "R", np.zeros(100, np.int64), ids % 10, {})
        root.apply(write_set)
    group = root.outgoing[0].groups[0]
    sizes = [len(run) for run in group.runs]
    assert len(sizes) <= 6
    assert all(older > 2 * newer for older, newer in pairwise(sizes))
    _, numbers, neighbours = root.expand(np.array([0]), "out")
    assert numbers.tolist() == list(range(count))
    assert neighbours.tolist() == [number % 10 for number in range(count)]
    write_set = WriteSet()
    write_set.delete_relationships(np.arange(0, count, 2))
    root.apply(write_set)
    assert root.expand(np.array([0]), "out")[1].tolist() == list(range(1, count, 2))
    assert root.degree(np.array([0, 5]), "both").tolist() == [count // 2, count // 10]


def test_a_queue_leaves_no_garbage_behind() -> None:
    """Create and delete without end on the same nodes: memory stays that of a few."""
    root = Root.empty()
    write_set = WriteSet()
    write_set.create_index(IndexSpec("Job", ("k",)))
    root.apply(write_set)
    write_set = WriteSet()
    write_set.create_nodes([0], ("Queue",), {})
    root.apply(write_set)
    for step in range(1, 120):
        node, edge = np.array([step * 200]), step * 200
        write_set = WriteSet()
        ids = np.arange(200) + step * 200
        texts = [f"job {i}" for i in ids.tolist()]
        write_set.create_nodes(ids, ("Job",), {"k": Vector.from_values(texts)})
        write_set.create_relationships(np.arange(edge, edge + 200), "HAS", [0] * 200, ids, {})
        root.apply(write_set)
        write_set = WriteSet()
        write_set.delete_relationships(np.arange(edge, edge + 200))
        write_set.delete_nodes(ids)
        root.apply(write_set)
        assert root.nodes_alive(node).tolist() == [False]
    assert (root.node_count, root.relationship_count) == (1, 0)
    assert root.schema.filled[0].size < 10_000
    assert root.node_columns[0].heap.count < 10_000
    assert sum(group.size for group in root.outgoing[0].groups.values()) < 3_000
    assert not root.table.chunks
    assert len(root.alive.chunks) == 1


def test_garbage_of_aborted_transactions_is_swept() -> None:
    root = Root.empty()
    write_set = WriteSet()
    write_set.create_constraint(ConstraintSpec("N", ("k",)))
    root.apply(write_set)
    shared = root.schema.filled[0]
    for step in range(60):
        private = root.fork()
        write_set = WriteSet()
        ids = np.arange(200) + 10 + step * 200
        texts = [f"{step} {i}" for i in range(200)]
        write_set.create_nodes(ids, ("N",), {"k": Vector.from_values(texts)})
        private.apply(write_set)
    assert shared.size > 4_096
    old = root.fork()
    write_set = WriteSet()
    write_set.create_nodes([1], ("N",), {"k": Vector.from_values(["kept"])})
    root.apply(write_set)
    assert root.schema.filled[0] is not shared
    assert root.schema.filled[0].size == 1
    assert old.schema.filled[0] is shared, "another root's index must be left alone"
    index = root.find_index("N", ("k",))
    assert index is not None
    assert root.index_lookup_one(index, ("kept",)) == [1]
    assert old.index_lookup_one(index, ("kept",)) == []


def test_many_nodes_under_one_key() -> None:
    root = Root.empty()
    write_set = WriteSet()
    write_set.create_index(IndexSpec("N", ("k",)))
    root.apply(write_set)
    write_set = WriteSet()
    keys = [["red", "green", "blue"][i % 3] for i in range(3_000)]
    write_set.create_nodes(np.arange(3_000), ("N",), {"k": Vector.from_values(keys)})
    root.apply(write_set)
    write_set = WriteSet()
    write_set.set_node_property([0, 3], "k", Vector.from_values(["green", None]))
    write_set.remove_label([6], "N")
    root.apply(write_set)
    index = root.find_index("N", ("k",))
    assert index is not None
    assert (root.index_distinct(index), root.index_size(index)) == (3, 2_999)
    rows, nodes = root.index_lookup(index, [("red",), ("none",), ("green",), (None,)])
    red = list(range(9, 3_000, 3))
    green = [0, *range(1, 3_000, 3)]
    assert rows.tolist() == [0] * len(red) + [2] * len(green)
    assert nodes.tolist() == red + green
    assert root.index_lookup_one(index, ("green",)) == green
    assert root.index_range(index, "c", True, "green", True).tolist() == green


def test_ranges_over_many_keys() -> None:
    root = Root.empty()
    write_set = WriteSet()
    write_set.create_index(IndexSpec("N", ("k",)))
    root.apply(write_set)
    count = 50_000
    keys = np.random.default_rng(3).permutation(count)
    write_set = WriteSet()
    write_set.create_nodes(np.arange(count), ("N",), {"k": Vector.of(Kind.INT, keys)})
    root.apply(write_set)
    index = root.find_index("N", ("k",))
    assert index is not None
    for low, high in ((10, 20), (None, 5), (count - 3, None), (100.5, 101.5), (7, 6)):
        mask = np.ones(count, dtype=bool)
        mask &= keys >= low if low is not None else True
        mask &= keys < high if high is not None else True
        want = np.flatnonzero(mask).tolist()
        assert root.index_range(index, low, True, high, False).tolist() == want
    write_set = WriteSet()
    write_set.create_nodes([count], ("N",), {"k": Vector.from_values([10.5])})
    write_set.set_node_property([int(np.flatnonzero(keys == 12)[0])], "k", Vector.from_values([-1]))
    root.apply(write_set)
    mask = (keys >= 10) & (keys < 14) & (keys != 12)
    want = [*np.flatnonzero(mask).tolist(), count]
    assert root.index_range(index, 10, True, 14, False).tolist() == want


@pytest.mark.parametrize("seed", range(6))
def test_pieces_cover_every_row_once(seed: int) -> None:
    random = np.random.default_rng(seed)
    ids = random.integers(-3 * CHUNK_IDS, 9 * CHUNK_IDS, 300)
    if seed == 1:
        ids = np.sort(ids)
    elif seed == 2:
        ids = np.arange(CHUNK_IDS - 7, 3 * CHUNK_IDS + 5)
    elif seed == 3:
        ids = ids * 2**30
    elif seed == 4:
        ids = ids[:1]
    rebuilt = np.full(len(ids), -1)
    covered = np.zeros(len(ids), dtype=int)
    for number, rows, offsets, length in pieces(ids):
        local = np.arange(CHUNK_IDS)[offsets]
        assert len(local) == length
        rebuilt[rows] = local + number * CHUNK_IDS
        covered[rows] += 1
    assert (rebuilt == ids).all()
    assert (covered == 1).all()


def test_a_chunk_is_copied_once_for_each_epoch() -> None:
    array = Chunked(Epoch(), ((np.int64, 0),))
    first = array.own(0)[0]
    assert array.own(0)[0] is first
    twin = Chunked(Epoch(), array.layout)
    twin._share(array)
    copied = twin.own(0)[0]
    assert copied is not first
    assert twin.own(0)[0] is copied
    copied[5] = 9
    assert array.gather(np.array([5, 6]))[0].tolist() == [0, 0]
    assert twin.gather(np.array([5, 6]))[0].tolist() == [9, 0]


def test_thresholds_are_what_the_texts_say() -> None:
    assert adjacency._TAIL_MAX < chunked.CHUNK_IDS == 4_096


def test_digest_is_blind_to_how_contents_are_kept(loaded: Root) -> None:
    """Merges, flat forms, heaps and the order of reads leave no trace in it."""
    before = digest(loaded)
    other = loaded.fork()
    for _ in range(30):
        other.expand(np.arange(0, NODES, 50), "both")
        other.node_property(np.arange(0, NODES, 50)[::-1].copy(), "s")
    assert digest(other) == before
    write_set = WriteSet()
    write_set.set_node_property([1, 2], "s", Vector.from_values(["passing", 5]))
    other.apply(write_set)
    assert digest(other) != before
    write_set = WriteSet()
    write_set.set_node_property([1, 2], "s", Vector.from_values(["s1", "s2"]))
    other.apply(write_set)
    assert digest(other) == before


def test_digest_sees_every_kind_of_difference() -> None:
    def root_of(build: object) -> bytes:
        root = Root.empty()
        write_set = WriteSet()
        write_set.create_nodes([0, 1], ("A",), {"p": Vector.from_values([1, 2])})
        write_set.create_relationships([0], "R", [0], [1], {"w": Vector.from_values([1])})
        root.apply(write_set)
        if build is not None:
            write_set = WriteSet()
            build(write_set)  # type: ignore[operator]
            root.apply(write_set)
        return digest(root)

    builds = [
        None,
        lambda w: w.set_node_property([0], "p", Vector.from_values([1.0])),
        lambda w: w.set_node_property([0], "p", Vector.from_values([True])),
        lambda w: w.set_node_property([0], "p", Vector.from_values(["1"])),
        lambda w: w.set_node_property([0], "p", Vector.from_values([[1]])),
        lambda w: w.set_node_property([0], "p", Vector.from_values([[1.0]])),
        lambda w: w.set_node_property([0], "p", Vector.from_values([None])),
        lambda w: w.set_node_property([0, 1], "p", Vector.from_values([2, 1])),
        lambda w: w.set_relationship_property([0], "w", Vector.from_values([2])),
        lambda w: w.set_relationship_property([0], "p", Vector.from_values([1])),
        lambda w: w.add_label([0], "B"),
        lambda w: w.remove_label([0], "A"),
        lambda w: w.delete_relationships([0]),
        lambda w: w.create_nodes([2], (), {}),
        lambda w: w.create_nodes([3], (), {}),
        lambda w: w.create_relationships([1], "R", [0], [1], {}),
        lambda w: w.create_relationships([1], "R", [1], [0], {}),
        lambda w: w.create_relationships([1], "S", [0], [1], {}),
        lambda w: w.create_index(IndexSpec("A", ("p",))),
        lambda w: w.create_constraint(ConstraintSpec("A", ("p",), name="index_A_p")),
    ]
    assert len({root_of(build) for build in builds}) == len(builds)
    assert root_of(None) == root_of(None)
