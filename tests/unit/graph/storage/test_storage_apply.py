"""Applying write sets: what is refused, what is counted, what forks see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graph import catalog
from graph.digest import digest
from graph.errors import ConflictError, ConstraintError, GraphError, LimitError, SchemaError
from graph.indexes import ConstraintSpec, IndexSpec
from graph.limits import ID_MAX
from graph.store import IdAllocator, Root
from graph.vector import Kind, Vector
from graph.write_set import Counters, WriteSet


def values(*entries: Any) -> Vector:
    return Vector.from_values(list(entries))


def created(ids: list[int], labels: tuple[str, ...] = (), **properties: Vector) -> WriteSet:
    write_set = WriteSet()
    write_set.create_nodes(ids, labels, properties)
    return write_set


def people(constraint: bool = True) -> Root:
    """Nodes 0 to 3, labelled P, with k = 0 to 3; 0 -> 1 -> 2 by relationships 0 and 1."""
    root = Root.empty()
    if constraint:
        write_set = WriteSet()
        write_set.create_constraint(ConstraintSpec("P", ("k",)))
        root.apply(write_set)
    write_set = created([0, 1, 2, 3], ("P",), k=values(0, 1, 2, 3))
    write_set.create_relationships([0, 1], "R", [0, 1], [1, 2], {})
    root.apply(write_set)
    return root


def refused(
    root: Root, write_set: WriteSet, error: type[Exception], match: str | None = None
) -> None:
    before = digest(root)
    with pytest.raises(error, match=match):
        root.apply(write_set)
    assert digest(root) == before
    fork = root.fork()
    with pytest.raises(error, match=match):
        fork.apply(write_set)
    assert digest(fork) == before


# counters


def test_everything_is_counted() -> None:
    root = Root.empty()
    write_set = created([0, 1], ("A", "B"), p=values(1, None), q=values("x", "y"))
    write_set.create_relationships([0, 1], "R", [0, 1], [1, 1], {"w": values(None, 2.5)})
    assert root.apply(write_set) == Counters(
        nodes_created=2, relationships_created=2, properties_set=4, labels_added=4
    )
    write_set = WriteSet()
    write_set.set_node_property([0, 1], "p", values(None, None))  # one to remove
    write_set.set_node_property([0], "q", values(None))
    write_set.set_node_property([0], "nothing", values(None))
    write_set.set_relationship_property([0, 1], "w", values(1, None))
    write_set.add_label([0, 1], "A")
    write_set.add_label([0, 1, 0], "C")
    write_set.remove_label([0], "B")
    write_set.remove_label([0], "never seen")
    write_set.delete_relationships([0, 0, 1])
    write_set.delete_relationships([0])
    write_set.delete_nodes([1, 1])
    assert root.apply(write_set) == Counters(
        nodes_deleted=1,
        relationships_deleted=2,
        properties_set=4,
        labels_added=2,
        labels_removed=1,
    )
    total = Counters(nodes_created=1)
    total.add(Counters(nodes_created=2, indexes_added=1))
    assert total == Counters(nodes_created=3, indexes_added=1)


def test_of_a_repeated_id_the_last_value_counts() -> None:
    root = people()
    write_set = WriteSet()
    write_set.set_node_property([3, 0, 3, 0], "x", values(1, 2, "three", 4))
    assert root.apply(write_set).properties_set == 2
    assert root.node_property(np.array([0, 3]), "x").to_list() == [4, "three"]


# what refers to nothing, what is there already


def test_operations_on_what_is_gone_conflict() -> None:
    root = people()
    write_set = WriteSet()
    write_set.delete_nodes([3])
    root.apply(write_set)
    for build in (
        lambda w: w.set_node_property([3], "k", values(1)),
        lambda w: w.set_node_property([0, 3], "k", values(8, 9)),
        lambda w: w.add_label([3], "Q"),
        lambda w: w.remove_label([3], "P"),
        lambda w: w.delete_nodes([3]),
        lambda w: w.create_relationships([9], "R", [0], [3], {}),
        lambda w: w.create_relationships([9], "R", [3], [0], {}),
        lambda w: w.delete_relationships([77]),
        lambda w: w.set_relationship_property([0, 77], "w", values(1, 2)),
    ):
        write_set = WriteSet()
        build(write_set)
        refused(root, write_set, ConflictError, "does not exist any more; retry")


def test_ids_are_used_once() -> None:
    root = people()
    refused(root, created([2]), GraphError, "exists already")
    refused(root, created([8, 2]), GraphError, "exists already")
    refused(root, created([8, 8]), GraphError, "twice")
    refused(root, created([-1]), GraphError, "not in")
    refused(root, created([5, ID_MAX]), GraphError, "must be in")
    twice = created([8])
    twice.extend(created([9]))
    twice.extend(created([8]))
    refused(root, twice, GraphError, "twice")
    write_set = WriteSet()
    write_set.create_relationships([1], "R", [0], [0], {})
    refused(root, write_set, GraphError, "relationship 1 exists already")


def test_a_connected_node_is_not_deleted() -> None:
    root = people()
    write_set = WriteSet()
    write_set.delete_nodes([3, 1])
    refused(root, write_set, ConstraintError, r"Cannot delete node<1>, because it still has")
    write_set = WriteSet()
    write_set.create_relationships([5], "R", [3], [3], {})
    write_set.delete_nodes([3])
    refused(root, write_set, ConstraintError, "node<3>")
    write_set = WriteSet()
    write_set.delete_nodes([1])
    write_set.delete_relationships([0, 1])  # in the same write set, though later
    root.apply(write_set)
    assert root.scan_nodes(None, 0, 9)[0].tolist() == [0, 2, 3]
    assert root.expand(np.array([0, 2]), "both")[0].tolist() == []


def test_a_transaction_that_lost_a_race() -> None:
    """Its private root and the head diverge; at commit the head must notice."""
    head = people()
    private = head.fork()
    mine = WriteSet()
    mine.create_relationships([5], "R", [0], [3], {})
    private.apply(mine)
    other = WriteSet()
    other.delete_nodes([3])
    head.apply(other)
    refused(head, mine, ConflictError)
    mine = created([11], ("P",), k=values(40))
    private.apply(mine)
    head.apply(created([10], ("P",), k=values(40)))
    refused(head, mine, ConstraintError, r"Node\(10\) already exists.*`P`.*`k` = 40")


# uniqueness


def test_unique_keys() -> None:
    root = people()
    refused(root, created([4], ("P",), k=values(2)), ConstraintError, r"Node\(2\)")
    refused(root, created([4], ("P",), k=values(2.0)), ConstraintError)
    refused(root, created([4, 5], ("P",), k=values(7, 7.0)), ConstraintError, r"Node\(4\)")
    refused(root, created([4, 5], ("P",), k=values(7, 3)), ConstraintError, r"Node\(3\)")
    for properties in ({"k": values(True)}, {"k": values(float("nan"))}, {}, {"j": values(1)}):
        root.apply(created([root.next_node_id], ("P",), **properties))
    root.apply(created([root.next_node_id], ("Q",), k=values(2)))
    write_set = WriteSet()
    write_set.add_label([root.next_node_id - 1], "P")
    refused(root, write_set, ConstraintError)
    write_set = WriteSet()
    write_set.set_node_property([0, 1], "k", values(50, 50))
    refused(root, write_set, ConstraintError)
    write_set = WriteSet()
    write_set.set_node_property([0], "k", values(3))
    refused(root, write_set, ConstraintError)


def test_only_the_outcome_must_be_unique() -> None:
    root = people()
    write_set = WriteSet()
    write_set.set_node_property([0, 1], "k", values(1, 0))  # a swap
    root.apply(write_set)
    write_set = WriteSet()
    write_set.set_node_property([2], "k", values(3))
    write_set.set_node_property([3], "k", values(2))
    root.apply(write_set)
    write_set = created([4], ("P",), k=values(2))
    write_set.remove_label([3], "P")
    root.apply(write_set)
    write_set = created([5], ("P",), k=values(3))
    write_set.delete_relationships([1])
    write_set.delete_nodes([2])
    root.apply(write_set)
    index = root.find_index("P", ("k",))
    assert index is not None
    rows, nodes = root.index_lookup(index, [(0,), (1,), (2,), (3,), (4,)])
    assert (rows.tolist(), nodes.tolist()) == ([0, 1, 2, 3], [1, 0, 4, 5])


def test_an_aborted_transaction_claims_no_key() -> None:
    root = people()
    private = root.fork()
    private.apply(created([4], ("P",), k=values(99)))
    del private
    root.apply(created([5], ("P",), k=values(99)))
    index = root.find_index("P", ("k",))
    assert index is not None
    assert root.index_lookup_one(index, (99,)) == [5]


def test_composite_constraint() -> None:
    root = Root.empty()
    write_set = WriteSet()
    write_set.create_constraint(ConstraintSpec("P", ("a", "b")))
    root.apply(write_set)
    root.apply(created([0, 1, 2], ("P",), a=values(1, 1, 1), b=values(1, 2, None)))
    refused(root, created([3], ("P",), a=values(1), b=values(2)), ConstraintError, "`a`, `b`")
    root.apply(created([3], ("P",), a=values(1)))
    write_set = WriteSet()
    write_set.set_node_property([3], "b", values(2))
    refused(root, write_set, ConstraintError)


# schema


def test_schema_operations() -> None:
    root = people(constraint=False)
    write_set = WriteSet()
    write_set.create_index(IndexSpec("P", ("k",), name="mine"))
    write_set.create_index(IndexSpec("P", kind="label"))
    assert root.apply(write_set).indexes_added == 2
    assert [index.name for index in root.indexes()] == ["mine", "index_P"]
    fork = root.fork()
    write_set = WriteSet()
    write_set.create_index(IndexSpec("P", ("k",)), if_not_exists=True)
    assert root.apply(write_set).indexes_added == 0
    for operation in (
        lambda w: w.create_index(IndexSpec("P", ("k",))),
        lambda w: w.create_index(IndexSpec("Q", ("k",), name="mine")),
        lambda w: w.create_constraint(ConstraintSpec("P", ("k",))),
        lambda w: w.drop_index("nothing"),
        lambda w: w.drop_constraint("mine"),
        lambda w: w.create_index(IndexSpec("R", ("k",), entity="relationship")),
        lambda w: w.create_index(IndexSpec("P", ("a", "a"))),
        lambda w: w.create_index(IndexSpec("P", (), kind="range")),
        lambda w: w.create_constraint(ConstraintSpec("P", ("k",), kind="exists")),
    ):
        write_set = WriteSet()
        write_set.create_index(IndexSpec("Other", ("z",)))  # must not be left behind
        operation(write_set)
        refused(root, write_set, SchemaError)
    write_set = WriteSet()
    write_set.drop_index("mine")
    write_set.drop_index("mine", if_exists=True)
    write_set.create_constraint(ConstraintSpec("P", ("k",), name="u"))
    assert root.apply(write_set) == Counters(indexes_removed=1, constraints_added=1)
    assert [constraint.name for constraint in root.constraints()] == ["u"]
    assert fork.constraints() == []
    index = fork.find_index("P", ("k",))
    assert index is not None
    assert fork.index_lookup(index, [(2,)])[1].tolist() == [2]
    with pytest.raises(SchemaError, match="dropped; plan the query again"):
        root.index_lookup(index, [(2,)])
    write_set = WriteSet()
    write_set.drop_index("u")
    refused(root, write_set, SchemaError, "belongs to a constraint")
    write_set = WriteSet()
    write_set.drop_constraint("u")
    write_set.drop_constraint("u", if_exists=True)
    assert root.apply(write_set) == Counters(constraints_removed=1)
    assert root.find_index("P", ("k",)) is None


def test_a_constraint_on_data_that_breaks_it() -> None:
    root = people(constraint=False)
    root.apply(created([4], ("P",), k=values(1.0)))
    write_set = WriteSet()
    write_set.create_constraint(ConstraintSpec("P", ("k",)))
    refused(root, write_set, ConstraintError, "nodes 1 and 4 both have label `P` and k = 1")


def test_schema_and_data_do_not_mix() -> None:
    write_set = created([4])
    write_set.create_index(IndexSpec("P", ("k",)))
    refused(people(), write_set, GraphError, "schema or data, not both")


def test_names_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "CATALOG_NAMES_MAX", 3)
    root = people()
    write_set = WriteSet()
    write_set.add_label([0], "A")
    write_set.add_label([0], "B")
    write_set.set_node_property([0], "new", values(1))
    write_set.add_label([0], "C")
    refused(root, write_set, LimitError, "more than 3 different labels")


# forks and ids


def test_forks_do_not_see_one_another() -> None:
    root = people()
    states = [digest(root)]
    roots = [root]
    for step in range(6):
        twin = roots[step // 2].fork()
        write_set = created([100 + step], ("P", f"L{step}"), k=values(f"v{step}"))
        write_set.create_relationships([100 + step], f"T{step % 2}", [0], [100 + step], {})
        write_set.set_node_property([1], "s", values(f"by {step}"))
        twin.apply(write_set)
        roots.append(twin)
        states.append(digest(twin))
    assert [digest(root) for root in roots] == states
    assert len(set(states)) == len(states)


def test_the_parent_of_a_fork_may_go_on_too() -> None:
    root = people()
    twin = root.fork()
    before = digest(twin)
    write_set = WriteSet()
    write_set.set_node_property([0], "k", values("changed"))
    write_set.delete_relationships([0])
    root.apply(write_set)
    assert digest(twin) == before
    assert twin.node_properties(0) == {"k": 0}
    assert root.node_properties(0) == {"k": "changed"}


def test_vectors_handed_out_do_not_change() -> None:
    root = people()
    ids = np.array([0, 1])
    got = [root.node_property(ids, "k"), root.node_property(ids[:1], "k")]
    edges = root.expand(ids, "out")
    write_set = WriteSet()
    write_set.set_node_property([0, 1], "k", values(77, 78))
    write_set.create_relationships([5], "R", [0], [3], {})
    root.apply(write_set)
    assert [vector.to_list() for vector in got] == [[0, 1], [0]]
    assert edges[1].tolist() == [0, 1]


def test_ids_are_handed_out_once() -> None:
    ids = IdAllocator(5, 7)
    assert [ids.nodes(3), ids.nodes(1), ids.relationships(2), ids.relationships(1)] == [5, 8, 7, 9]
    root = people()
    assert (root.next_node_id, root.next_relationship_id) == (4, 2)
    root.apply(created([50, 40]))
    root.apply(created([45]))
    assert root.next_node_id == 51


def test_a_hole_in_the_ids_costs_nothing() -> None:
    root = people()
    small = root.memory_bytes()
    far = ID_MAX - 2
    write_set = created([far, far + 1], ("P",), k=values(500, 501))
    write_set.create_relationships([far], "R", [far], [0], {})
    root.apply(write_set)
    for _ in range(300):  # enough work for a flat form, which must not be made
        assert root.node_property(np.array([far, 0, 2]), "k").to_list() == [500, 0, 2]
        assert root.has_label(np.array([far, 5]), "P").tolist() == [True, False]
        assert root.expand(np.array([0, far]), "both")[1].tolist() == [0, far, far]
    assert root.memory_bytes() < 4 * small


def test_unknown_names_are_empty_everywhere() -> None:
    root = people()
    ids = np.array([0, 1])
    assert root.node_property(ids, "none").to_list() == [None, None]
    assert root.relationship_property(ids, "none").to_list() == [None, None]
    assert root.node_property(ids, "none").kind is Kind.OBJECT
    assert root.label_id("none") is root.type_id("none") is root.key_id("none") is None
    assert root.find_index("none", ("k",)) is None
    assert root.label_count("none") == root.type_count("none") == 0
    assert (root.labels(), root.types(), root.keys()) == (["P"], ["R"], ["k"])
    assert (root.label_name(0), root.type_name(0), root.key_name(0)) == ("P", "R", "k")
    assert root.average_degree == 0.5
    assert Root.empty().average_degree == 0.0
    with pytest.raises(GraphError, match="relationship 9 has been deleted"):
        root.relationship(9)
    with pytest.raises(GraphError, match="relationship 9 has been deleted"):
        root.relationships(np.array([0, 1] * 5 + [9]))
