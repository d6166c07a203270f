"""The storage against the naive model, over random histories of writes, forks and restores.

The thresholds (tail of an adjacency group, debt before a flat form, garbage before a sweep) are
made tiny here, so that short histories pass through merges, flat forms and sweeps; ids jump so
that chunks and holes occur.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from storage_model import Model, assert_same

from graph import adjacency, apply, chunked, columns, indexes
from graph.digest import digest, quick_digest
from graph.errors import ConflictError, ConstraintError
from graph.indexes import ConstraintSpec, IndexSpec
from graph.snapshot import read_snapshot, write_snapshot
from graph.store import IdAllocator, Root
from graph.vector import Vector
from graph.write_set import WriteSet
from graph.write_set_codec import decode, encode

VALUES = st.one_of(
    st.none(),
    st.integers(-3, 6),
    st.sampled_from([0.0, 1.0, 1.5, float("nan"), float("inf"), 2.0**60]),
    st.booleans(),
    st.sampled_from(["", "a", "aa", "b", "\N{SNOWMAN}"]),
    st.sampled_from([[1, 2], ["x"], [], [1, "x", 2.5], b"bytes", [1.0, 2.0]]),
)
TYPED = st.one_of(
    st.lists(st.integers(-5, 5) | st.none(), min_size=1, max_size=6),
    st.lists(st.floats(allow_nan=True) | st.none(), min_size=1, max_size=6),
    st.lists(st.booleans() | st.none(), min_size=1, max_size=6),
    st.lists(st.sampled_from(["a", "b", "c"]) | st.none(), min_size=1, max_size=6),
    st.lists(VALUES, min_size=1, max_size=6),
)
KEYS = st.sampled_from(["p", "q", "r"])
LABELS = st.sampled_from(["A", "B", "C"])
TYPES = st.sampled_from(["R", "S", "T"])
PICKS = st.lists(st.integers(0, 10**6), min_size=1, max_size=6)


class Pair:
    """A root, its model, and a write set under construction."""

    def __init__(self, root: Root, model: Model) -> None:
        self.root = root
        self.model = model

    def nodes(self, picks: list[int]) -> list[int]:
        known = sorted(self.model.nodes)
        return [known[pick % len(known)] for pick in picks] if known else []

    def relationships(self, picks: list[int]) -> list[int]:
        known = sorted(self.model.relationships)
        return [known[pick % len(known)] for pick in picks] if known else []


class StorageMachine(RuleBasedStateMachine):
    pairs: Any = Bundle("pairs")

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(adjacency, "_TAIL_MAX", 4)
        self.patch.setattr(adjacency, "_TAIL_FIRST", 2)
        self.patch.setattr(adjacency, "_DEAD_SPARE", 1)
        self.patch.setattr(adjacency, "_ENTRIES_PER_PIECE", 10**9)
        self.patch.setattr(chunked, "_FLAT_SPARE_CHUNKS", 2)
        self.patch.setattr(columns, "_GARBAGE_SPARE", 3)
        self.patch.setattr(indexes, "GARBAGE_SPARE", 3)
        self.patch.setattr(apply, "GARBAGE_SPARE", 3)
        self.patch.setattr(indexes, "_RUN_KEYS", 3)
        self.ids = IdAllocator(0, 0)
        self.live: list[Pair] = []

    def teardown(self) -> None:
        for pair in self.live:
            assert_same(pair.root, pair.model)
        self.patch.undo()

    @initialize(target=pairs)
    def begin(self) -> Pair:
        pair = Pair(Root.empty(), Model())
        write_set = WriteSet()
        write_set.create_constraint(ConstraintSpec("A", ("p",)))
        write_set.create_index(IndexSpec("B", ("q",)))
        write_set.create_index(IndexSpec("A", ("q", "r")))
        write_set.create_index(IndexSpec("C", kind="label"))
        pair.root.apply(write_set)
        self.live.append(pair)
        return pair

    def write(self, pair: Pair, write_set: WriteSet, coded: bool) -> None:
        """Apply to both; the root must refuse exactly what would break the model."""
        if write_set.empty:
            return
        if coded:
            write_set = decode(encode(write_set))
        model = pair.model.copy()
        model.apply(write_set)
        before = digest(pair.root)
        if model.duplicates("A", ("p",)) or model.dangling():
            with pytest.raises(ConstraintError):
                pair.root.apply(write_set)
            assert digest(pair.root) == before
            return
        twin = pair.root.fork()
        pair.root.apply(write_set)
        assert digest(twin) == before
        twin.apply(decode(encode(write_set)))
        assert digest(twin) == digest(pair.root)
        pair.model = model

    @rule(
        pair=pairs,
        labels=st.lists(LABELS, max_size=2),
        values=st.dictionaries(KEYS, TYPED, max_size=2),
        gap=st.sampled_from([0, 0, 0, 0, 5, 4093, 9000]),
        count=st.integers(1, 6),
        coded=st.booleans(),
    )
    def create_nodes(
        self,
        pair: Pair,
        labels: list[str],
        values: dict[str, list[Any]],
        gap: int,
        count: int,
        coded: bool,
    ) -> None:
        self.ids.nodes(gap)
        first = self.ids.nodes(count)
        write_set = WriteSet()
        properties = {
            key: Vector.from_values([column[row % len(column)] for row in range(count)])
            for key, column in values.items()
        }
        write_set.create_nodes(np.arange(first, first + count), tuple(labels), properties)
        self.write(pair, write_set, coded)

    @rule(
        pair=pairs,
        type=TYPES,
        start_picks=PICKS,
        end_picks=PICKS,
        values=st.dictionaries(KEYS, TYPED, max_size=1),
        gap=st.sampled_from([0, 0, 0, 4090]),
        coded=st.booleans(),
    )
    def create_relationships(
        self,
        pair: Pair,
        type: str,
        start_picks: list[int],
        end_picks: list[int],
        values: dict[str, list[Any]],
        gap: int,
        coded: bool,
    ) -> None:
        count = min(len(start_picks), len(end_picks))
        starts, ends = pair.nodes(start_picks[:count]), pair.nodes(end_picks[:count])
        if not starts:
            return
        self.ids.relationships(gap)
        first = self.ids.relationships(count)
        properties = {
            key: Vector.from_values([column[row % len(column)] for row in range(count)])
            for key, column in values.items()
        }
        write_set = WriteSet()
        ids = np.arange(first, first + count)
        write_set.create_relationships(ids, type, starts, ends, properties)
        self.write(pair, write_set, coded)

    @rule(pair=pairs, picks=PICKS, key=KEYS, values=TYPED, nodes=st.booleans(), coded=st.booleans())
    def set_property(
        self,
        pair: Pair,
        picks: list[int],
        key: str,
        values: list[Any],
        nodes: bool,
        coded: bool,
    ) -> None:
        ids = pair.nodes(picks) if nodes else pair.relationships(picks)
        write_set = WriteSet()
        vector = Vector.from_values([values[row % len(values)] for row in range(len(ids))])
        if nodes:
            write_set.set_node_property(ids, key, vector)
        else:
            write_set.set_relationship_property(ids, key, vector)
        self.write(pair, write_set, coded)

    @rule(pair=pairs, picks=PICKS, label=LABELS, add=st.booleans())
    def change_label(self, pair: Pair, picks: list[int], label: str, add: bool) -> None:
        write_set = WriteSet()
        ids = pair.nodes(picks)
        if add:
            write_set.add_label(ids, label)
        else:
            write_set.remove_label(ids, label)
        self.write(pair, write_set, False)

    @rule(pair=pairs, picks=PICKS)
    def delete_relationships(self, pair: Pair, picks: list[int]) -> None:
        write_set = WriteSet()
        write_set.delete_relationships(pair.relationships(picks))
        self.write(pair, write_set, True)

    @rule(pair=pairs, picks=PICKS, detach=st.booleans())
    def delete_nodes(self, pair: Pair, picks: list[int], detach: bool) -> None:
        ids = np.array(pair.nodes(picks), dtype=np.int64)
        write_set = WriteSet()
        if detach and len(ids):
            write_set.delete_relationships(pair.root.expand(ids, "both")[1])
        write_set.delete_nodes(ids)
        self.write(pair, write_set, True)

    @rule(pair=pairs, picks=PICKS, key=KEYS, values=TYPED, label=LABELS)
    def mixed_transaction(
        self, pair: Pair, picks: list[int], key: str, values: list[Any], label: str
    ) -> None:
        """Creates, joins, changes, and deletes part of what it did, in one write set."""
        old = pair.nodes(picks)
        first = self.ids.nodes(3)
        new = np.arange(first, first + 3)
        write_set = WriteSet()
        write_set.create_nodes(new, (label,), {})
        ends = [*old, first][:3]
        joined = self.ids.relationships(len(ends))
        edges = np.arange(joined, joined + len(ends))
        write_set.create_relationships(edges, "R", [first] * len(ends), ends, {})
        touched = [*old, *new.tolist()]
        vector = Vector.from_values([values[row % len(values)] for row in range(len(touched))])
        write_set.set_node_property(touched, key, vector)
        write_set.add_label(touched, "A")
        write_set.delete_relationships(edges[-1:])
        write_set.delete_nodes(new[-1:])
        write_set.set_node_property(new[-1:], key, Vector.from_values([1]))
        assert set(write_set.touched_nodes().tolist()) == set(old)
        self.write(pair, write_set, True)

    @rule(target=pairs, pair=pairs)
    def fork(self, pair: Pair) -> Any:
        if len(self.live) >= 5:
            return multiple()
        twin = Pair(pair.root.fork(), pair.model.copy())
        self.live.append(twin)
        return twin

    @rule(pair=consumes(pairs), target=pairs)
    def restore(self, pair: Pair) -> Pair:
        image = b"".join(write_snapshot(pair.root))
        cut = [image[start : start + 37] for start in range(0, len(image), 37)]
        restored = read_snapshot(cut)
        assert digest(restored) == digest(pair.root)
        pair.root = restored
        return pair

    @rule(pair=pairs)
    def compare(self, pair: Pair) -> None:
        assert_same(pair.root, pair.model)

    @rule(pair=pairs)
    def refuse_what_is_gone(self, pair: Pair) -> None:
        write_set = WriteSet()
        write_set.set_node_property([10**9], "p", Vector.from_values([1]))
        with pytest.raises(ConflictError):
            pair.root.apply(write_set)

    @invariant()
    def counts_agree(self) -> None:
        for pair in self.live:
            assert pair.root.node_count == len(pair.model.nodes)
            assert pair.root.relationship_count == len(pair.model.relationships)

    @invariant()
    def kept_digests_are_fresh(self) -> None:
        for pair in self.live:
            assert quick_digest(pair.root, turn=15) == digest(pair.root)


StorageMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
TestStorage = StorageMachine.TestCase
