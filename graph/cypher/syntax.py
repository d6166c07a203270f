"""The syntax tree of a Cypher query: frozen dataclasses, one per production.

The parser makes these and nothing else does. ``position`` is an offset into the query text, for
error messages; it takes no part in equality, so equal expressions compare equal wherever they
stand (grouping keys rely on that). ``Query`` is the root of data queries, ``SchemaCommand`` and
``ShowCommand`` of the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

# --------------------------------------------------------------------------- expressions


@dataclass(frozen=True, slots=True)
class Expression:
    """Base of all expressions."""

    position: int = field(default=-1, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Literal(Expression):
    """null, boolean, integer, float, string."""

    value: Any

    # 1, 1.0 and true are different literals although Python finds them equal.
    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Literal)
            and type(other.value) is type(self.value)
            and (other.value == self.value)
        )

    def __hash__(self) -> int:
        return hash((type(self.value).__name__, self.value))


@dataclass(frozen=True, slots=True)
class Parameter(Expression):
    """``$name``; lifted literals are called ``$ 0``, ``$ 1`` ... (no client can write that)."""

    name: str


@dataclass(frozen=True, slots=True)
class Variable(Expression):
    name: str


@dataclass(frozen=True, slots=True)
class Property(Expression):
    """``subject.key`` of a node, relationship, map, temporal value or point."""

    subject: Expression
    key: str


@dataclass(frozen=True, slots=True)
class Index(Expression):
    """``subject[index]`` of a list, map, node or relationship."""

    subject: Expression
    index: Expression


@dataclass(frozen=True, slots=True)
class Slice(Expression):
    """``subject[start..stop]``; either end may be missing."""

    subject: Expression
    start: Expression | None
    stop: Expression | None


@dataclass(frozen=True, slots=True)
class ListLiteral(Expression):
    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class MapLiteral(Expression):
    items: tuple[tuple[str, Expression], ...]


@dataclass(frozen=True, slots=True)
class MapProjection(Expression):
    """``n {.name, .*, key: expression, variable}``. Items: see ``MapProjectionItem``."""

    subject: Expression
    items: tuple[tuple[str, Expression | None], ...]  # (key, None) is .key; ("*", None) is .*


@dataclass(frozen=True, slots=True)
class Unary(Expression):
    """operator: ``NOT``, ``-``, ``+``."""

    operator: str
    operand: Expression


@dataclass(frozen=True, slots=True)
class Binary(Expression):
    """operator: ``+ - * / % ^ AND OR XOR = <> < <= > >= IN STARTS_WITH ENDS_WITH CONTAINS =~``."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Comparison(Expression):
    """A chain ``a < b <= c``: two or more comparisons joined by AND."""

    operands: tuple[Expression, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IsNull(Expression):
    """``IS NULL`` or, negated, ``IS NOT NULL``."""

    operand: Expression
    negated: bool


@dataclass(frozen=True, slots=True)
class HasLabels(Expression):
    """``n:A:B`` as a predicate: all of the labels (or, for a relationship, the type)."""

    subject: Expression
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FunctionCall(Expression):
    """``name(arguments)``; the name is in lower case, with its namespace (``date.truncate``)."""

    name: str
    arguments: tuple[Expression, ...]
    distinct: bool = False


@dataclass(frozen=True, slots=True)
class CountStar(Expression):
    """``count(*)``."""


@dataclass(frozen=True, slots=True)
class Case(Expression):
    """``CASE [subject] WHEN condition THEN value ... [ELSE otherwise] END``."""

    subject: Expression | None
    branches: tuple[tuple[Expression, Expression], ...]
    otherwise: Expression | None


@dataclass(frozen=True, slots=True)
class ListComprehension(Expression):
    """``[variable IN source WHERE predicate | projection]``."""

    variable: str
    source: Expression
    predicate: Expression | None
    projection: Expression | None


@dataclass(frozen=True, slots=True)
class Quantifier(Expression):
    """``all|any|none|single(variable IN source WHERE predicate)``."""

    quantifier: str
    variable: str
    source: Expression
    predicate: Expression


@dataclass(frozen=True, slots=True)
class Reduce(Expression):
    """``reduce(accumulator = initial, variable IN source | body)``."""

    accumulator: str
    initial: Expression
    variable: str
    source: Expression
    body: Expression


@dataclass(frozen=True, slots=True)
class PatternPredicate(Expression):
    """``(a)-[:R]->(b)`` where a boolean is expected, ``EXISTS { pattern [WHERE ...] }``.

    ``form``: ``pattern`` (bare), ``exists`` (``exists((a)-->(b))``) or ``subquery``
    (``EXISTS { }``, the only one that may introduce variables).
    """

    patterns: tuple[PathPattern, ...]
    where: Expression | None = None
    form: str = "pattern"


@dataclass(frozen=True, slots=True)
class PatternCount(Expression):
    """``COUNT { pattern [WHERE ...] }``."""

    patterns: tuple[PathPattern, ...]
    where: Expression | None = None


@dataclass(frozen=True, slots=True)
class ExistsSubquery(Expression):
    """``EXISTS { query }`` that is more than patterns: several clauses, WITH, aggregation."""

    query: Query


@dataclass(frozen=True, slots=True)
class CountSubquery(Expression):
    """``COUNT { query }`` that is more than patterns."""

    query: Query


@dataclass(frozen=True, slots=True)
class PatternComprehension(Expression):
    """``[path = (a)-->(b) WHERE predicate | projection]``."""

    pattern: PathPattern
    predicate: Expression | None
    projection: Expression


# --------------------------------------------------------------------------- patterns


class Direction(Enum):
    """Direction of a relationship pattern as written, left to right."""

    OUT = "->"
    IN = "<-"
    BOTH = "--"


@dataclass(frozen=True, slots=True)
class NodePattern:
    """``(variable:A:B {key: value})``. ``properties``: a MapLiteral or a Parameter."""

    variable: str | None
    labels: tuple[str, ...]
    properties: Expression | None
    position: int = field(default=-1, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class RelationshipPattern:
    """``-[variable:A|B *1..3 {key: value}]->``.

    ``hops``: ``None`` for one hop, else (minimum, maximum), a missing end being ``None``.
    """

    variable: str | None
    types: tuple[str, ...]
    direction: Direction
    properties: Expression | None
    hops: tuple[int | None, int | None] | None
    position: int = field(default=-1, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class PathPattern:
    """Node, relationship, node ...; ``shortest``: ``None``, ``"one"`` (shortestPath), ``"all"``."""

    variable: str | None
    nodes: tuple[NodePattern, ...]
    relationships: tuple[RelationshipPattern, ...]
    shortest: str | None = None
    position: int = field(default=-1, compare=False, repr=False, kw_only=True)


# --------------------------------------------------------------------------- clauses


@dataclass(frozen=True, slots=True)
class Clause:
    """Base of all clauses."""

    position: int = field(default=-1, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Match(Clause):
    patterns: tuple[PathPattern, ...]
    where: Expression | None
    optional: bool


@dataclass(frozen=True, slots=True)
class Unwind(Clause):
    source: Expression
    variable: str


@dataclass(frozen=True, slots=True)
class ProjectionItem:
    """``expression AS name``; ``name`` is the text of the expression where no alias is given."""

    expression: Expression
    name: str
    aliased: bool
    position: int = field(default=-1, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class SortItem:
    expression: Expression
    descending: bool


@dataclass(frozen=True, slots=True)
class Projection:
    """What WITH and RETURN share. ``star``: ``*`` stands before the items."""

    items: tuple[ProjectionItem, ...]
    star: bool
    distinct: bool
    order_by: tuple[SortItem, ...]
    skip: Expression | None
    limit: Expression | None


@dataclass(frozen=True, slots=True)
class With(Clause):
    projection: Projection
    where: Expression | None


@dataclass(frozen=True, slots=True)
class Return(Clause):
    projection: Projection


@dataclass(frozen=True, slots=True)
class Create(Clause):
    patterns: tuple[PathPattern, ...]


@dataclass(frozen=True, slots=True)
class SetProperty:
    """``subject.key = value`` (null removes)."""

    subject: Expression
    key: str
    value: Expression
    position: int = field(default=-1, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class SetProperties:
    """``variable = map`` (replace) or ``variable += map`` (merge)."""

    variable: str
    value: Expression
    merge: bool
    position: int = field(default=-1, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class SetLabels:
    variable: str
    labels: tuple[str, ...]
    position: int = field(default=-1, compare=False, repr=False, kw_only=True)


SetItem = SetProperty | SetProperties | SetLabels


@dataclass(frozen=True, slots=True)
class Set(Clause):
    items: tuple[SetItem, ...]


@dataclass(frozen=True, slots=True)
class RemoveProperty:
    subject: Expression
    key: str
    position: int = field(default=-1, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class RemoveLabels:
    variable: str
    labels: tuple[str, ...]
    position: int = field(default=-1, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Remove(Clause):
    items: tuple[RemoveProperty | RemoveLabels, ...]


@dataclass(frozen=True, slots=True)
class Delete(Clause):
    expressions: tuple[Expression, ...]
    detach: bool


@dataclass(frozen=True, slots=True)
class Merge(Clause):
    pattern: PathPattern
    on_create: tuple[SetItem, ...]
    on_match: tuple[SetItem, ...]


@dataclass(frozen=True, slots=True)
class CallProcedure(Clause):
    """``CALL name(arguments) YIELD item AS name, ...``; ``yields`` is ``None`` without YIELD."""

    name: str
    arguments: tuple[Expression, ...] | None
    yields: tuple[tuple[str, str], ...] | None
    where: Expression | None


# --------------------------------------------------------------------------- statements


class Mode(Enum):
    """What the client wants to see: the result, the plan, or both."""

    RUN = ""
    EXPLAIN = "EXPLAIN"
    PROFILE = "PROFILE"


@dataclass(frozen=True, slots=True)
class SingleQuery:
    clauses: tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """One or more single queries joined by UNION; ``union_all[i]`` joins part i and i + 1."""

    parts: tuple[SingleQuery, ...]
    union_all: tuple[bool, ...]
    mode: Mode = Mode.RUN


@dataclass(frozen=True, slots=True)
class SchemaCommand:
    """CREATE or DROP of an index or of a constraint.

    ``action``: ``create`` or ``drop``; ``target``: ``index`` or ``constraint``; ``kind``:
    ``range`` (also Memgraph's label-property index), ``label`` (Memgraph's label index) or
    ``unique``. ``name`` may be given (Neo4j), or label and properties (Memgraph), or both.
    """

    action: str
    target: str
    kind: str
    name: str | None
    label: str | None
    properties: tuple[str, ...]
    entity: str = "node"  # or "relationship"
    if_exists: bool = False  # IF NOT EXISTS, IF EXISTS
    mode: Mode = Mode.RUN


@dataclass(frozen=True, slots=True)
class ShowCommand:
    """``SHOW INDEXES``, ``SHOW CONSTRAINTS``, ``SHOW INDEX INFO``, ``SHOW CONSTRAINT INFO``,

    ``SHOW RAFT INFO``, ``SHOW STORAGE INFO``; ``what`` is the text after SHOW in lower case.
    ``yields`` (column, name) is ``None`` without YIELD or with ``YIELD *``; ``where`` and
    ``returns`` see the yielded names.
    """

    what: str
    mode: Mode = Mode.RUN
    yields: tuple[tuple[str, str], ...] | None = None
    where: Expression | None = None
    returns: Projection | None = None


Statement = Query | SchemaCommand | ShowCommand
