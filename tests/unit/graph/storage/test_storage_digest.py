"""Digests: equal contents, equal digests; kept ones are never stale, and damage comes to light."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from graph import digest as digest_module
from graph.columns import Column
from graph.digest import SCRUB_TURNS, digest, quick_digest
from graph.snapshot import read_snapshot, write_snapshot
from graph.store import Root
from graph.vector import Vector
from graph.write_set import WriteSet

NODES = 4 * 4096


def sample() -> Root:
    root = Root.empty()
    write_set = WriteSet()
    ids = np.arange(NODES)
    properties = {
        "n": Vector.from_values(ids.tolist()),
        "s": Vector.from_values([f"text {i % 999}" for i in range(NODES)]),
        "o": Vector.from_values([[i, "x"] if i < 300 else None for i in range(NODES)]),
    }
    write_set.create_nodes(ids, ("A", "B"), properties)
    weights = {"w": Vector.from_values([i / 3 for i in range(NODES)])}
    write_set.create_relationships(ids, "R", ids, ids[::-1], weights)
    root.apply(write_set)
    return root


def changed(root: Root, change: Callable[[WriteSet], None]) -> Root:
    twin = root.fork()
    write_set = WriteSet()
    change(write_set)
    twin.apply(write_set)
    return twin


CHANGES: dict[str, Callable[[WriteSet], None]] = {
    "a number": lambda w: w.set_node_property([7], "n", Vector.from_values([8])),
    "a type": lambda w: w.set_node_property([7], "n", Vector.from_values([7.0])),
    "a text": lambda w: w.set_node_property([7], "s", Vector.from_values(["text 8"])),
    "a list": lambda w: w.set_node_property([7], "o", Vector.from_values([[7, "y"]])),
    "null": lambda w: w.set_node_property([9000], "s", Vector.from_values([None])),
    "a label": lambda w: w.remove_label([9000], "B"),
    "a weight": lambda w: w.set_relationship_property([9000], "w", Vector.from_values([1])),
    "a relationship": lambda w: w.delete_relationships([9000]),
    "a node": lambda w: w.create_nodes([NODES + 9], (), {}),
    "a name": lambda w: w.add_label([1], "C"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_change_shows(what: str) -> None:
    root = sample()
    before = quick_digest(root)
    assert before == digest(root)
    twin = changed(root, CHANGES[what])
    assert quick_digest(twin) == digest(twin) != before
    assert quick_digest(root) == before


def test_text_cannot_move_from_one_row_to_the_next() -> None:
    left, right = (
        changed(
            Root.empty(),
            lambda w, t=texts: w.create_nodes([0, 1], (), {"s": Vector.from_values(t)}),
        )
        for texts in (["ab", "c"], ["a", "bc"])
    )
    assert digest(left) != digest(right)


def test_a_write_in_place_is_noticed() -> None:
    """The same root, no fork between: chunks are written where they are."""
    root = sample()
    seen = {quick_digest(root)}
    for change in CHANGES.values():
        write_set = WriteSet()
        change(write_set)
        root.apply(write_set)
        seen.add(quick_digest(root))
        assert quick_digest(root) == digest(root)
    assert len(seen) == len(CHANGES) + 1


def test_it_does_not_matter_how_the_contents_came_about() -> None:
    root = sample()
    back = changed(root, lambda w: w.set_node_property([7], "s", Vector.from_values(["z"])))
    write_set = WriteSet()
    write_set.set_node_property([7], "s", Vector.from_values(["text 7"]))
    back.apply(write_set)
    assert quick_digest(back) == quick_digest(root)
    assert quick_digest(read_snapshot(write_snapshot(root))) == quick_digest(root)


def test_what_nobody_wrote_to_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    root = sample()
    quick_digest(root)
    reads: list[Column] = []
    rows = digest_module._column_rows
    monkeypatch.setattr(
        digest_module, "_column_rows", lambda *args: reads.append(args[1]) or rows(*args)
    )
    quick_digest(root.fork(), turn=15)
    assert not reads
    twin = changed(root, lambda w: w.set_node_property([7], "n", Vector.from_values([8])))
    quick_digest(twin, turn=15)
    assert reads == [twin.node_columns[0]]


def test_memory_gone_bad_comes_to_light_within_one_round_of_turns() -> None:
    root = sample()
    before = quick_digest(root)
    root.node_columns[0].chunks[3].arrays[1][17] ^= 1 << 40
    assert quick_digest(root, turn=2) == before  # kept: that part was not looked at
    found = [quick_digest(root, turn) != before for turn in range(SCRUB_TURNS)]
    assert found.index(True) == 3
    assert digest(root) != before
