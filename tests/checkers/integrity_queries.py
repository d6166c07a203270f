"""Does a database agree with itself, as far as queries can tell?

What ``integrity.py`` asks of a root in process, asked of any server by a client. All questions
must be about one moment, so ``run`` is that of one transaction, or nothing writes meanwhile:

    with session.begin_transaction() as transaction:
        verdict = check_integrity_by_queries(
            lambda text, parameters: transaction.run(text, parameters).values()
        )

Everything is read into memory of the client: for graphs of tests.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graph.keys import Key, tuple_key
from tests.checkers.history import Verdict, verdict

__all__ = ["Run", "check_integrity_by_queries"]

# A query and its parameters to rows.
Run = Callable[[str, Mapping[str, Any]], Sequence[Sequence[Any]]]

_SHOWN = 8
_OUT = "MATCH (a) WITH a MATCH (a)-[r]->(b) RETURN id(r), type(r), id(a), id(b)"
_IN = "MATCH (b) WITH b MATCH (b)<-[r]-(a) RETURN id(r), type(r), id(a), id(b)"
_BOTH = "MATCH (a) WITH a MATCH (a)-[r]-(b) RETURN id(r)"


def check_integrity_by_queries(run: Run) -> Verdict:
    """Whether a database agrees with itself; ``checked`` counts nodes and relationships."""
    audit = _Audit(run)
    audit.check_labels()
    audit.check_relationships()
    audit.check_indexes()
    audit.check_constraints()
    return verdict(audit.findings, len(audit.labels) + len(audit.outgoing))


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


class _Audit:
    """The answers of one database."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.findings: list[str] = []
        rows = run("MATCH (n) RETURN id(n), labels(n)", {})
        self.labels = {node: frozenset(names) for node, names in rows}
        self._equal("scan of nodes: repeats", len(rows) - len(self.labels), 0)
        self._equal("count of nodes", self._value("MATCH (n) RETURN count(n)"), len(self.labels))
        self.outgoing = Counter(tuple(row) for row in run(_OUT, {}))

    def _value(self, text: str) -> Any:
        return self.run(text, {})[0][0]

    def _equal(self, what: str, found: Any, wanted: Any) -> None:
        if found != wanted:
            self.findings.append(f"{what}: {found!r}, where {wanted!r} is right")

    def _same(self, what: str, found: Counter[Any], wanted: Counter[Any]) -> None:
        for words, odd in (("too many", found - wanted), ("lacking", wanted - found)):
            if odd:
                shown = sorted(odd.elements(), key=repr)[:_SHOWN]
                self.findings.append(f"{what}: {len(odd)} {words}: {shown!r}")

    def check_labels(self) -> None:
        members: dict[str, list[int]] = defaultdict(list)
        for node, names in self.labels.items():
            for name in names:
                members[name].append(node)
        for name, nodes in sorted(members.items()):
            rows = self.run(f"MATCH (n:{_quoted(name)}) RETURN id(n)", {})
            found = Counter(row[0] for row in rows)
            self._same(f"nodes with label {name!r}", found, Counter(nodes))
            count = self._value(f"MATCH (n:{_quoted(name)}) RETURN count(n)")
            self._equal(f"count of label {name!r}", count, len(nodes))

    def check_relationships(self) -> None:
        outgoing = self.outgoing
        incoming = Counter(tuple(row) for row in self.run(_IN, {}))
        self._same("incoming against outgoing relationships", incoming, outgoing)
        repeats = {row: count for row, count in outgoing.items() if count > 1}
        self._equal("outgoing relationships: repeats", repeats, {})
        known = self.labels.keys()
        dangling = [row for row in outgoing | incoming if not {row[2], row[3]} <= known]
        self._equal("dangling relationships", dangling[:_SHOWN], [])
        either = Counter(row[0] for row in self.run(_BOTH, {}))
        wanted = Counter({row[0]: 1 if row[2] == row[3] else 2 for row in outgoing})
        self._same("relationships in either direction", either, wanted)
        total = self._value("MATCH ()-[r]->() RETURN count(r)")
        self._equal("count of relationships", total, len(outgoing))
        for name, count in sorted(Counter(row[1] for row in outgoing).items()):
            found = self._value(f"MATCH ()-[r:{_quoted(name)}]->() RETURN count(r)")
            self._equal(f"count of type {name!r}", found, count)

    # indexes and constraints

    def _keys(self, label: str, properties: Sequence[str]) -> list[tuple[int, list[Any], Key]]:
        """Nodes of a label that have all properties: id, values, key; by a look at every node."""
        values = ", ".join(f"n.{_quoted(name)}" for name in properties)
        rows = self.run(
            f"MATCH (n) WITH n WHERE $label IN labels(n) RETURN id(n), [{values}]", {"label": label}
        )
        keyed = [(node, list(found), tuple_key(tuple(found))) for node, found in rows]
        return [(node, found, key) for node, found, key in keyed if key is not None]

    def check_indexes(self) -> None:
        shown = "SHOW INDEXES YIELD name, entityType, labelsOrTypes, properties"
        for name, entity, labels, properties in self.run(shown, {}):
            if entity != "NODE" or not properties:
                continue
            wanted: dict[Key, list[int]] = defaultdict(list)
            probes: dict[Key, list[Any]] = {}
            for node, values, key in self._keys(labels[0], properties):
                wanted[key].append(node)
                probes[key] = values
            where = " AND ".join(
                f"n.{_quoted(one)} = row[{place}]" for place, one in enumerate(properties, 1)
            )
            rows = self.run(
                f"UNWIND $rows AS row MATCH (n:{_quoted(labels[0])}) WHERE {where} "
                "RETURN row[0], id(n)",
                {"rows": [[number, *values] for number, values in enumerate(probes.values())]},
            )
            right = Counter(
                (number, node) for number, key in enumerate(probes) for node in wanted[key]
            )
            self._same(f"index {name!r}: (probe, node)", Counter(tuple(row) for row in rows), right)

    def check_constraints(self) -> None:
        shown = "SHOW CONSTRAINTS YIELD name, type, entityType, labelsOrTypes, properties"
        for name, kind, entity, labels, properties in self.run(shown, {}):
            if entity != "NODE" or kind != "UNIQUENESS":
                continue
            holders: dict[Key, list[int]] = defaultdict(list)
            for node, _, key in self._keys(labels[0], properties):
                holders[key].append(node)
            several = [nodes for nodes in holders.values() if len(nodes) > 1]
            self._equal(f"constraint {name!r}: nodes with one key", several[:_SHOWN], [])
