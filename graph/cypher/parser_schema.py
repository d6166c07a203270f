"""Schema and SHOW commands, in the spellings of Neo4j 5 and of Memgraph.

::

    CREATE [RANGE] INDEX [name] [IF NOT EXISTS] FOR (n:L) ON (n.a, n.b)      Neo4j
    CREATE [RANGE] INDEX [name] [IF NOT EXISTS] FOR ()-[r:T]-() ON (r.a)     Neo4j
    CREATE INDEX ON :L    CREATE INDEX ON :L(a, b)                           Memgraph
    DROP INDEX name [IF EXISTS]                                              Neo4j
    DROP INDEX ON :L      DROP INDEX ON :L(a, b)                             Memgraph
    CREATE CONSTRAINT [name] [IF NOT EXISTS] FOR (n:L) REQUIRE n.a IS UNIQUE Neo4j
    CREATE CONSTRAINT [name] ON (n:L) ASSERT n.a, n.b IS UNIQUE              Memgraph
    DROP CONSTRAINT name [IF EXISTS]                                         Neo4j
    DROP CONSTRAINT ON (n:L) ASSERT n.a IS UNIQUE                            Memgraph
    SHOW ... [YIELD ... [WHERE ...] [RETURN ...]]                            both
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

from graph.cypher.parser_atoms import AtomParser
from graph.cypher.syntax import (
    Expression,
    Mode,
    Projection,
    SchemaCommand,
    ShowCommand,
)

__all__ = ["SchemaParser"]

_SHOWN: Final = {
    ("CONSTRAINT", "INFO"): "constraint info",
    ("CONSTRAINT",): "constraints",
    ("CONSTRAINTS",): "constraints",
    ("DATABASES",): "databases",
    ("INDEX", "INFO"): "index info",
    ("INDEX",): "indexes",
    ("INDEXES",): "indexes",
    ("RAFT", "INFO"): "raft info",
    ("STORAGE", "INFO"): "storage info",
}
_OTHER_INDEXES: Final = frozenset(["BTREE", "FULLTEXT", "LOOKUP", "POINT", "TEXT", "VECTOR"])


class SchemaParser(AtomParser):
    """Reads schema and SHOW commands."""

    # Where ``YIELD *`` stood, if it did: it is legal in a call that stands alone.
    _yield_star: int | None = None

    @abstractmethod
    def projection(self) -> Projection:
        """Read what follows WITH or RETURN."""

    def schema_statement(self, mode: Mode) -> SchemaCommand | ShowCommand | None:
        """Read a schema or SHOW command if one is next."""
        kind, follows = self.kinds[self.at], self.kinds[self.at + 1]
        if kind == "CREATE" and follows != "(" and self.kinds[self.at + 2] != "=":
            if follows == "CONSTRAINT":
                self.at += 2
                return self._create_constraint(mode)
            if follows == "INDEX" or follows == "RANGE":
                self.at += 2
                if follows == "RANGE":
                    self.expect("INDEX")
                return self._create_index(mode)
            if self.values[self.at + 1].upper() in _OTHER_INDEXES and follows == "NAME":
                self.error("Only RANGE indexes are supported: CREATE INDEX ...", at=self.at + 1)
        elif kind == "DROP":
            self.at += 1
            if self.accept("INDEX"):
                return self._drop_index(mode)
            if self.accept("CONSTRAINT"):
                return self._drop_constraint(mode)
            self.fail("INDEX", "CONSTRAINT")
        elif kind == "SHOW":
            return self._show(mode)
        return None

    # ------------------------------------------------------------------ indexes

    def _create_index(self, mode: Mode) -> SchemaCommand:
        if self.accept("ON"):
            label, properties = self._label_and_properties()
            kind = "range" if properties else "label"
            return SchemaCommand("create", "index", kind, None, label, properties, mode=mode)
        name = self._optional_name()
        if_exists = self._if_not_exists()
        if not self.accept("FOR"):
            self.fail("FOR", "ON") if name is None else self.fail("FOR")
        entity, variable, label = self._entity()
        self.expect("ON")
        properties = self._property_list(variable)
        return SchemaCommand(
            "create", "index", "range", name, label, properties, entity, if_exists, mode
        )

    def _drop_index(self, mode: Mode) -> SchemaCommand:
        if self.accept("ON"):
            label, properties = self._label_and_properties()
            kind = "range" if properties else "label"
            return SchemaCommand("drop", "index", kind, None, label, properties, mode=mode)
        name = self.name("the name of an index")
        if_exists = self._if_exists()
        return SchemaCommand(
            "drop", "index", "range", name, None, (), if_exists=if_exists, mode=mode
        )

    def _label_and_properties(self) -> tuple[str, tuple[str, ...]]:
        self.expect(":")
        label = self.any_name("a label")
        properties: list[str] = []
        if self.accept("("):
            properties.append(self.any_name("a property key"))
            while self.accept(","):
                properties.append(self.any_name("a property key"))
            self._check_unique(properties)
            if not self.accept(")"):
                self.fail("','", "')'")
        return label, tuple(properties)

    # ------------------------------------------------------------------ constraints

    def _create_constraint(self, mode: Mode) -> SchemaCommand:
        name = self._optional_name()
        if_exists = self._if_not_exists()
        if self.accept("ON"):
            verb = "ASSERT"
        elif self.accept("FOR"):
            verb = "REQUIRE"
        else:
            self.fail("FOR", "ON")
        entity, variable, label = self._entity()
        if not (self.accept("ASSERT") or self.accept("REQUIRE")):
            self.fail(verb)
        properties = self._unique_properties(variable)
        return SchemaCommand(
            "create", "constraint", "unique", name, label, properties, entity, if_exists, mode
        )

    def _drop_constraint(self, mode: Mode) -> SchemaCommand:
        if self.accept("ON"):
            entity, variable, label = self._entity()
            self.expect("ASSERT")
            properties = self._unique_properties(variable)
            return SchemaCommand(
                "drop", "constraint", "unique", None, label, properties, entity, mode=mode
            )
        name = self.name("the name of a constraint")
        if_exists = self._if_exists()
        return SchemaCommand(
            "drop", "constraint", "unique", name, None, (), if_exists=if_exists, mode=mode
        )

    def _unique_properties(self, variable: str) -> tuple[str, ...]:
        if self.kinds[self.at] == "(":
            properties = self._property_list(variable)
        else:
            keys = [self._property_of(variable)]
            while self.accept(","):
                keys.append(self._property_of(variable))
            self._check_unique(keys)
            properties = tuple(keys)
        at = self.at
        self.expect("IS")
        self.accept("NODE")
        if not self.accept("UNIQUE"):
            self.error("Only uniqueness constraints are supported: ... IS UNIQUE", at=at)
        return properties

    # ------------------------------------------------------------------ parts

    def _optional_name(self) -> str | None:
        kind = self.kinds[self.at]
        if kind == "FOR" or (kind == "IF" and self.kinds[self.at + 1] == "NOT"):
            return None
        return self.name("a name") if self.is_name() else None

    def _if_not_exists(self) -> bool:
        if not self.accept("IF"):
            return False
        self.expect("NOT")
        self.expect("EXISTS")
        return True

    def _if_exists(self) -> bool:
        if not self.accept("IF"):
            return False
        self.expect("EXISTS")
        return True

    def _entity(self) -> tuple[str, str, str]:
        """``(n:Label)`` or ``()-[r:TYPE]-()``: what it is, the variable and the label or type."""
        at = self.at
        path = self.path()
        nodes, relationships = path.nodes, path.relationships
        if len(relationships) == 1:
            relationship = relationships[0]
            bare = all(not (n.variable or n.labels or n.properties) for n in nodes)
            plain = relationship.hops is None and relationship.properties is None
            if bare and plain and relationship.variable and len(relationship.types) == 1:
                return "relationship", relationship.variable, relationship.types[0]
        node = nodes[0]
        if relationships or not node.variable or len(node.labels) != 1 or node.properties:
            self.error("Expected (n:Label) or ()-[r:TYPE]-() with one label or type", at=at)
        return "node", node.variable, node.labels[0]

    def _property_list(self, variable: str) -> tuple[str, ...]:
        self.expect("(")
        keys = [self._property_of(variable)]
        while self.accept(","):
            keys.append(self._property_of(variable))
        self._check_unique(keys)
        if not self.accept(")"):
            self.fail("','", "')'")
        return tuple(keys)

    def _property_of(self, variable: str) -> str:
        at = self.at
        if self.name("a property of the variable") != variable:
            self.error(f"Expected a property of '{variable}'", at=at)
        self.expect(".")
        return self.any_name("a property key")

    def _check_unique(self, keys: list[str]) -> None:
        if len(set(keys)) < len(keys):
            self.error("A property key stands twice in the list", at=self.at - 1)

    # ------------------------------------------------------------------ SHOW

    def _show(self, mode: Mode) -> ShowCommand:
        self.at += 1
        words: list[str] = []
        while self.is_name() and self.kinds[self.at] != "YIELD" and len(words) < 3:
            words.append(self.values[self.at].upper())
            self.at += 1
        what = _SHOWN.get(tuple(words))
        if what is None:
            self.at -= len(words)
            self.fail(
                *("RAFT INFO", "STORAGE INFO", "INDEX INFO", "CONSTRAINT INFO"),
                *("INDEXES", "CONSTRAINTS", "DATABASES"),
            )
        yields: tuple[tuple[str, str], ...] | None = None
        returns: Projection | None = None
        where: Expression | None = None
        if self.accept("YIELD"):
            yields = self.yield_items()
            where = self.expression() if self.accept("WHERE") else None
            returns = self.projection() if self.accept("RETURN") else None
        elif self.accept("WHERE"):
            where = self.expression()
        return ShowCommand(what, mode, yields, where, returns)

    def yield_items(self) -> tuple[tuple[str, str], ...] | None:
        """``a, b AS c`` after YIELD; ``None`` for ``*``, nothing for ``-``."""
        if self.accept("*"):
            return None
        if self.accept("-"):
            return ()
        items: list[tuple[str, str]] = []
        while True:
            column = self.any_name("a column")
            name = self.any_name("a variable") if self.accept("AS") else column
            items.append((column, name))
            if not self.accept(","):
                return tuple(items)
