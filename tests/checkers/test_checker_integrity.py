"""Integrity: whole graphs pass, and each thing that can be broken by hand is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from neo4j.time import DateTime

from graph.engine import Engine, Transaction
from graph.store import IdAllocator, Root
from tests.checkers.integrity import check_integrity
from tests.checkers.integrity_queries import Run, check_integrity_by_queries

_ENGINE = Engine()
_NOW = DateTime(2024, 5, 17, 12, 30, 0, 0)

SCRIPT = (
    "CREATE INDEX FOR (n:Person) ON (n.age)",
    "CREATE INDEX FOR (n:Person) ON (n.name, n.age)",
    "CREATE INDEX ON :Person",
    "CREATE CONSTRAINT FOR (n:City) REQUIRE n.code IS UNIQUE",
    "UNWIND range(0, 59) AS i "
    "CREATE (a:Person {age: i % 7, name: 'n' + toString(i % 5)})-[:LIVES {since: i}]->"
    "(b:City {code: i}) CREATE (a)-[:LIKES]->(a), (b)<-[:LIVES]-(a)",
    "MATCH (a:Person {age: 3}) SET a.age = 3.5, a.odd = true",
    "MATCH (a:Person {age: 4}) DETACH DELETE a",
    "MATCH (c:City) WHERE c.code % 10 = 0 SET c.code = 'c' + toString(c.code)",
    "MATCH (c:City) WHERE c.code = 7 REMOVE c:City SET c:`Ghost ``town```",
    "MATCH (:Person)-[r:LIKES]->() WITH r LIMIT 9 DELETE r",
)


def graph(*script: str) -> Root:
    root, allocator = Root.empty(), IdAllocator(0, 0)
    for text in script:
        transaction = Transaction(_ENGINE, root, allocator, now=_NOW, random=Random(3))
        transaction.run(_ENGINE.prepare(text), {})
        root = transaction.root
    return root


def run_on(root: Root) -> Run:
    def run(text: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        transaction = Transaction(_ENGINE, root, None, now=_NOW, random=Random(3), read_only=True)
        return transaction.run(_ENGINE.prepare(text), parameters).rows()

    return run


@pytest.mark.parametrize("length", range(len(SCRIPT) + 1))
def test_whole_graphs_pass(length: int) -> None:
    root = graph(*SCRIPT[:length])
    for found in (check_integrity(root), check_integrity_by_queries(run_on(root))):
        assert found.findings == ()
        assert found.valid is True
        assert found.checked == root.node_count + root.relationship_count


def test_a_fork_and_its_parent_pass() -> None:
    root = graph(*SCRIPT)
    fork = root.fork()
    transaction = Transaction(
        _ENGINE,
        fork,
        IdAllocator(fork.next_node_id, fork.next_relationship_id),
        now=_NOW,
        random=Random(3),
    )
    transaction.run(_ENGINE.prepare("MATCH (n:Person) DETACH DELETE n"), {})
    assert check_integrity(root).findings == ()
    assert check_integrity(transaction.root).findings == ()


# --- broken by hand -------------------------------------------------------------------------------


def _parts(*ids: int) -> Any:
    offsets = np.array(ids, dtype=np.int64)
    return [(0, np.arange(len(ids)), offsets, len(ids))]


def _person(root: Root) -> int:
    """A person who is not the end of every relationship."""
    return root.scan_nodes("Person", 0, 1)[0].item(0)


def _lives(root: Root) -> tuple[int, int, int]:
    """A LIVES relationship with its ends."""
    ids = root.scan_relationships("LIVES", 0, 1)[0]
    sources, targets = root.relationship_ends(ids)
    return ids.item(0), sources.item(0), targets.item(0)


def node_count(root: Root) -> None:
    root.own_alive().count += 1


def dead_but_labelled(root: Root) -> None:
    root.own_alive().discard(_parts(_person(root)))


def label_count(root: Root) -> None:
    root.own_label(root.label_names.ids["Person"]).count -= 1


def id_given_out_twice(root: Root) -> None:
    root.next_node_id = 3


def relationship_id_given_out_twice(root: Root) -> None:
    root.next_relationship_id = 3


def relationship_count(root: Root) -> None:
    root.own_table().count += 1


def type_count(root: Root) -> None:
    root.type_counts[root.type_names.ids["LIVES"]] += 1


def loop_count(root: Root) -> None:
    root.loops[root.type_names.ids["LIKES"]] = 0


def reverse_entry_missing(root: Root) -> None:
    """What dropping one half of a relationship's adjacency leaves."""
    number = root.type_names.ids["LIVES"]
    relationship, source, target = _lives(root)
    table = root.own_table()
    table.put(relationship + 1_000, number, source, target)
    root.next_relationship_id = relationship + 1_001
    root.type_counts[number] += 1
    root.own_adjacency(root.outgoing, number).add_one(
        source, relationship + 1_000, target, table.mask
    )


def wrong_neighbour(root: Root) -> None:
    number = root.type_names.ids["LIVES"]
    relationship, source, target = _lives(root)
    table = root.own_table()
    new = relationship + 1_000
    table.put(new, number, source, target)
    root.next_relationship_id = new + 1
    root.type_counts[number] += 1
    root.own_adjacency(root.outgoing, number).add_one(source, new, target, table.mask)
    root.own_adjacency(root.incoming, number).add_one(target, new, target, table.mask)


def wrong_owner(root: Root) -> None:
    number = root.type_names.ids["LIVES"]
    relationship, source, target = _lives(root)
    table = root.own_table()
    new = relationship + 1_000
    table.put(new, number, source, target)
    root.next_relationship_id = new + 1
    root.type_counts[number] += 1
    root.own_adjacency(root.outgoing, number).add_one(target, new, target, table.mask)
    root.own_adjacency(root.incoming, number).add_one(target, new, source, table.mask)


def erased_from_the_table(root: Root) -> None:
    relationship, _, _ = _lives(root)
    root.own_table().erase(_parts(relationship))


def property_of_the_dead(root: Root) -> None:
    root.own_node_column(root.key_names.ids["odd"]).put(4_000, True)


def property_count(root: Root) -> None:
    column = root.own_relationship_column(root.key_names.ids["since"])
    column.counts[2] += 1


def index_entry_missing(root: Root) -> None:
    index = next(one for one in root.schema.indexes.values() if one.info.properties == ("age",))
    value, _ = next(index.entries.items())
    index.entries._layers[0].pop(value)


def index_entry_incomplete(root: Root) -> None:
    index = next(one for one in root.schema.indexes.values() if one.info.properties == ("age",))
    entry = next(entry for _, entry in index.entries.items() if isinstance(entry, list))
    del entry[:]


def key_twice(root: Root) -> None:
    cities = root.scan_nodes("City", 0, 5)[0].tolist()
    column = root.own_node_column(root.key_names.ids["code"])
    index = next(one for one in root.schema.indexes.values() if one.info.constraint)
    for city in cities[:2]:
        column.put(city, 777)
        index.add_one(777, city)


BREAKS: list[tuple[Callable[[Root], None], str]] = [
    (node_count, "node count"),
    (dead_but_labelled, "label 'Person': living nodes lacks"),
    (label_count, "label 'Person': count"),
    (id_given_out_twice, "next node id"),
    (relationship_id_given_out_twice, "next relationship id"),
    (relationship_count, "relationship count"),
    (type_count, "type 'LIVES': count"),
    (loop_count, "type 'LIKES': loops"),
    (reverse_entry_missing, "type 'LIVES', in: the lists' relationships lacks"),
    (wrong_neighbour, "type 'LIVES', in: right neighbour lacks"),
    (wrong_owner, "type 'LIVES', out: in the right node's list lacks"),
    (erased_from_the_table, "type 'LIVES': count"),
    (dead_but_labelled, "dangling"),
    (property_of_the_dead, "property 'odd' of nodes: cells"),
    (property_count, "property 'since' of relationships: cells"),
    (index_entry_missing, "at"),
    (index_entry_incomplete, "at"),
    (key_twice, "keys twice"),
]
# What queries can see, too.
VISIBLE = [
    node_count,
    label_count,
    reverse_entry_missing,
    wrong_neighbour,
    wrong_owner,
    index_entry_missing,
    index_entry_incomplete,
    key_twice,
]


@pytest.mark.parametrize(
    ("harm", "words"), BREAKS, ids=[f"{harm.__name__}: {words}" for harm, words in BREAKS]
)
def test_each_break_is_found(harm: Callable[[Root], None], words: str) -> None:
    root = graph(*SCRIPT)
    harm(root)
    found = check_integrity(root, singles_max=10_000)
    assert found.valid is False
    assert any(words in finding for finding in found.findings), found.findings


@pytest.mark.parametrize("harm", VISIBLE)
def test_what_clients_can_see_is_found_by_queries(harm: Callable[[Root], None]) -> None:
    root = graph(*SCRIPT)
    harm(root)
    assert check_integrity_by_queries(run_on(root)).valid is False
