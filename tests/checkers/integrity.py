"""Does a root agree with itself?

Everything a root can be asked in two ways is asked in both, and the answers are compared:

    nodes          the scan, the count, each one's liveness, the ids handed out
    labels         the scan of a label, its count, its mask over all nodes, a node's own labels
    relationships  the scan, that of each type, the counts, ends that are alive
    adjacency      outgoing and incoming lists against the relationship table, loops, degrees, the
                   lists of one node (another path through the code) against those of all
    properties     cells counted against cells found on what is alive, one by one and in bulk
    indexes        lookups and ranges against a scan with a look at each node's properties
    constraints    no key twice

Nothing is changed. It costs a few NumPy calls for each label, type and key, and Python for each
index entry and for a sample of some ``SINGLES_MAX`` nodes and relationships.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from graph.keys import Key
from graph.store import Root
from graph.vector import IntArray
from tests.checkers.history import Verdict, verdict

__all__ = ["check_integrity"]

SINGLES_MAX = 500
_PAGE = 50_000
_SHOWN = 8

_Scan = Callable[[int, int], tuple[IntArray, int | None]]


def check_integrity(root: Root, *, singles_max: int = SINGLES_MAX) -> Verdict:
    """Whether a root agrees with itself; ``checked`` counts nodes and relationships.

    ``singles_max``: about how many of each are looked at one by one, too.
    """
    audit = _Audit(root, singles_max)
    audit.check_nodes()
    audit.check_labels()
    audit.check_relationships()
    audit.check_adjacency()
    audit.check_single_nodes()
    audit.check_properties()
    audit.check_indexes()
    return verdict(audit.findings, len(audit.nodes) + len(audit.relationships))


def _scanned(scan: _Scan) -> IntArray:
    parts: list[IntArray] = []
    start: int | None = 0
    while start is not None:
        ids, start = scan(start, _PAGE)
        parts.append(ids)
    return np.concatenate(parts)


class _Audit:
    """One walk over one root."""

    def __init__(self, root: Root, singles_max: int) -> None:
        self.root = root
        self.singles_max = singles_max
        self.findings: list[str] = []
        self.nodes = _scanned(partial(root.scan_nodes, None))
        self.relationships = _scanned(partial(root.scan_relationships, None))
        self.sources, self.targets = root.relationship_ends(self.relationships)
        self.types = root.relationship_types(self.relationships)

    def _step(self, count: int) -> int:
        """Every how many of ``count`` things one is looked at by itself."""
        return max(1, count // self.singles_max)

    def _sample(self, ids: IntArray) -> IntArray:
        return ids[:: self._step(len(ids))]

    def _equal(self, what: str, found: Any, wanted: Any) -> None:
        if found != wanted:
            self.findings.append(f"{what}: {found!r}, where {wanted!r} is right")

    def _same_ids(self, what: str, found: IntArray, wanted: IntArray) -> None:
        """Both are without repeats and in order."""
        if not np.array_equal(found, wanted):
            more = np.setdiff1d(found, wanted).tolist()
            less = np.setdiff1d(wanted, found).tolist()
            wrong = [f"has {more[:_SHOWN]} too many"] if more else []
            wrong += [f"lacks {less[:_SHOWN]}"] if less else []
            self.findings.append(f"{what} {' and '.join(wrong) or 'has repeats or is unordered'}")

    # nodes and labels

    def check_nodes(self) -> None:
        root, nodes = self.root, self.nodes
        self._same_ids("the scan of nodes", nodes, np.unique(nodes))
        self._equal("node count", root.node_count, len(nodes))
        self._same_ids("liveness", nodes[root.nodes_alive(nodes)], nodes)
        if len(nodes) and nodes.max() >= root.next_node_id:
            self._equal("next node id", root.next_node_id, f"more than {nodes.max()}")

    def check_labels(self) -> None:
        root, nodes = self.root, self.nodes
        of_node: dict[int, list[str]] = {node: [] for node in self._sample(nodes).tolist()}
        for name in root.label_names.names:
            scan = self._labelled(name)
            self._same_ids(f"label {name!r}: its scan, of living nodes,", scan, np.unique(scan))
            self._same_ids(f"label {name!r}: living nodes", np.intersect1d(scan, nodes), scan)
            self._equal(f"label {name!r}: count", root.label_count(name), len(scan))
            self._same_ids(f"label {name!r}: mask", nodes[root.has_label(nodes, name)], scan)
            for node in set(scan.tolist()).intersection(of_node):
                of_node[node].append(name)
        for node, names in of_node.items():
            self._equal(f"labels of node {node}", list(root.labels_of(node)), names)

    def _labelled(self, label: str) -> IntArray:
        return _scanned(partial(self.root.scan_nodes, label))

    # relationships

    def check_relationships(self) -> None:
        root, ids = self.root, self.relationships
        self._same_ids("the scan of relationships", ids, np.unique(ids))
        self._equal("relationship count", root.relationship_count, len(ids))
        if len(ids) and ids.max() >= root.next_relationship_id:
            self._equal("next relationship id", root.next_relationship_id, f"> {ids.max()}")
        for end, of in ((self.sources, "source"), (self.targets, "target")):
            dangling = ids[~root.nodes_alive(end)] if len(ids) else ids
            if len(dangling):
                self.findings.append(f"dangling: {dangling[:_SHOWN].tolist()} without a {of}")
        for number, name in enumerate(root.type_names.names):
            of_type = ids[self.types == number]
            self._equal(f"type {name!r}: count", root.type_count(name), len(of_type))
            loops = np.count_nonzero((self.sources == self.targets) & (self.types == number))
            self._equal(f"type {name!r}: loops", root.loops[number], int(loops))
            scan = _scanned(partial(root.scan_relationships, name))
            self._same_ids(f"type {name!r}: its scan", scan, of_type)

    def check_adjacency(self) -> None:
        for number, name in enumerate(self.root.type_names.names):
            of_type = self.types == number
            ids = self.relationships[of_type]
            ends = self.sources[of_type], self.targets[of_type]
            for direction, (own, other) in {"out": ends, "in": ends[::-1]}.items():
                self._check_lists(f"type {name!r}, {direction}", direction, name, ids, own, other)

    def _check_lists(
        self,
        what: str,
        direction: str,
        type_name: str,
        ids: IntArray,
        own: IntArray,
        other: IntArray,
    ) -> None:
        root, nodes = self.root, self.nodes
        rows, found, neighbours = root.expand(nodes, direction, (type_name,))
        order = np.argsort(found, kind="stable")
        self._same_ids(f"{what}: the lists' relationships", found[order], ids)
        if np.array_equal(found[order], ids):
            holders = nodes[rows][order]
            self._same_ids(f"{what}: in the right node's list", ids[holders == own], ids)
            self._same_ids(f"{what}: right neighbour", ids[neighbours[order] == other], ids)
        places = np.searchsorted(nodes, own)
        degrees = np.bincount(places, minlength=len(nodes))[: len(nodes)]
        wrong = nodes[root.degree(nodes, direction, (type_name,)) != degrees]
        self._equal(f"{what}: nodes with a wrong degree", wrong[:_SHOWN].tolist(), [])

    def check_single_nodes(self) -> None:
        """The paths for one node, in all directions and types, against the table."""
        touching: dict[int, tuple[set[int], set[int]]] = defaultdict(lambda: (set(), set()))
        sample = self._sample(self.nodes)
        for side, ends in enumerate((self.sources, self.targets)):
            near = np.isin(ends, sample)
            for node, relationship in zip(
                ends[near].tolist(), self.relationships[near].tolist(), strict=True
            ):
                touching[node][side].add(relationship)
        for node in sample.tolist():
            outgoing, incoming = touching[node]
            one = np.array([node], dtype=np.int64)
            for direction, wanted in (
                ("out", outgoing),
                ("in", incoming),
                ("both", outgoing | incoming),
            ):
                found = sorted(self.root.expand(one, direction)[1].tolist())
                self._equal(f"node {node}, {direction}: relationships", found, sorted(wanted))
                degree = self.root.degree(one, direction).item(0)
                self._equal(f"node {node}, {direction}: degree", degree, len(wanted))

    # properties, indexes, constraints

    def check_properties(self) -> None:
        root = self.root
        for number, name in enumerate(root.key_names.names):
            for what, ids, column, values in (
                ("nodes", self.nodes, root.node_columns[number], root.node_property),
                (
                    "relationships",
                    self.relationships,
                    root.relationship_columns[number],
                    root.relationship_property,
                ),
            ):
                bulk = values(ids, name).to_list()
                cells = sum(value is not None for value in bulk)
                self._equal(f"property {name!r} of {what}: cells", column.count, cells)
                step = self._step(len(ids))
                for owner, value in zip(ids[::step].tolist(), bulk[::step], strict=True):
                    one = column.value(owner)
                    if type(one) is not type(value) or (one != value and one == one):
                        self._equal(f"property {name!r} of {what} {owner}", one, value)

    def check_indexes(self) -> None:
        root = self.root
        for info in root.indexes():
            if not info.properties:
                continue  # a label's index is its scan
            nodes = self._labelled(info.label)
            columns = [root.node_property(nodes, name).to_list() for name in info.properties]
            keys = root.node_keys(root.schema.indexes[info.name], nodes)
            wanted: dict[Key, list[int]] = defaultdict(list)
            probes: dict[Key, tuple[Any, ...]] = {}
            rows = zip(*columns, strict=True)
            for node, key, values in zip(nodes.tolist(), keys, rows, strict=True):
                if key is not None:
                    wanted[key].append(node)
                    probes[key] = values
            self._check_lookups(info, wanted, probes)
            if info.constraint is not None:
                several = [(probes[key], ids) for key, ids in wanted.items() if len(ids) > 1]
                self._equal(f"constraint {info.constraint!r}: keys twice", several[:_SHOWN], [])
            if len(info.properties) == 1:
                self._check_range(info, wanted)
        names = {info.constraint for info in root.indexes() if info.constraint}
        self._equal("constraints with an index", names, {info.name for info in root.constraints()})

    def _check_lookups(
        self, info: Any, wanted: dict[Key, list[int]], probes: dict[Key, tuple[Any, ...]]
    ) -> None:
        places, found = self.root.index_lookup(info, list(probes.values()))
        by_probe: list[list[int]] = [[] for _ in probes]
        for place, node in zip(places.tolist(), found.tolist(), strict=True):
            by_probe[place].append(node)
        step = self._step(len(probes))
        for number, ((key, values), ids) in enumerate(zip(probes.items(), by_probe, strict=True)):
            self._equal(f"index {info.name!r} at {values!r}", ids, wanted[key])
            if number % step == 0:
                one = self.root.index_lookup_one(info, values)
                self._equal(f"index {info.name!r} at {values!r}, one by one", one, wanted[key])

    def _check_range(self, info: Any, wanted: dict[Key, list[int]]) -> None:
        for kinds in ((int, float), (str,)):
            keys = sorted(key for key in wanted if type(key) in kinds)  # type: ignore[type-var]
            if not keys:
                continue
            middle: Any = keys[len(keys) // 2]
            below = [node for key in keys if key < middle for node in wanted[key]]
            above = [node for key in keys if not key < middle for node in wanted[key]]
            for what, found, ids in (
                ("below", self.root.index_range(info, None, False, middle, False), below),
                ("from", self.root.index_range(info, middle, True, None, False), above),
            ):
                self._same_ids(
                    f"index {info.name!r}, {what} {middle!r}", found, np.array(sorted(ids))
                )
