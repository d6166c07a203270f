"""Plans: what a query does, as a tree of frozen nodes.

The planner makes this tree, the rules of ``rules/`` rewrite it, ``compiler.py`` turns it into
operators, and ``explain.py`` shows it to the client. A node names its input plans, the variables
that it binds (as columns) and, as syntax trees, the expressions it evaluates.

Every plan ends, at the bottom left, in an ``Argument``: the chunk from outside. For a whole
statement that is one row without columns (or, in a batch, one row for each request); for the
inner plan of an ``Optional``, ``SemiApply`` or ``RollUp`` it is a chunk of the outer rows with
their positions in the hidden column ``row``. So correlated subqueries run once for a chunk and
not once for a row, and one plan serves many requests.

Columns whose names begin with ``@`` (``HIDDEN``) are hidden. A query that has such names of its
own, in backticks, is refused when it is prepared.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from graph.cypher.syntax import Direction, Expression

__all__ = [
    "HIDDEN",
    "REQUEST",
    "AggregateItem",
    "Aggregation",
    "AllNodesScan",
    "Argument",
    "AsEntity",
    "BoundRelationship",
    "BuildPath",
    "Cartesian",
    "CountStore",
    "Create",
    "CreateNode",
    "CreateRelationship",
    "Delete",
    "Distinct",
    "Expand",
    "Extend",
    "Filter",
    "HashJoin",
    "Limit",
    "Merge",
    "NodeById",
    "NodeIndexIn",
    "NodeIndexRange",
    "NodeIndexSeek",
    "NodeLabelScan",
    "Optional",
    "Plan",
    "ProcedureCall",
    "Project",
    "Prune",
    "Recall",
    "RelationshipScan",
    "RollUp",
    "SemiApply",
    "ShortestPath",
    "Sort",
    "Top",
    "Union",
    "Unwind",
    "Update",
    "UpdateItem",
    "VariableExpand",
    "children",
]

HIDDEN = "@"
REQUEST = "@request"  # which request of a batch a row belongs to


@dataclass(frozen=True, slots=True)
class Plan:
    """Base of all plan nodes. ``rows`` is the planner's estimate of the rows that come out."""

    rows: float = field(default=1.0, compare=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Argument(Plan):
    """The rows from outside: see the module."""


# --------------------------------------------------------------------------- leaves that extend
# Each takes its input rows and crosses or joins them with what it finds.


@dataclass(frozen=True, slots=True)
class AllNodesScan(Plan):
    input: Plan
    variable: str


@dataclass(frozen=True, slots=True)
class NodeLabelScan(Plan):
    input: Plan
    variable: str
    label: str


@dataclass(frozen=True, slots=True)
class NodeIndexSeek(Plan):
    """Nodes of ``label`` whose ``keys`` equal ``values``, by index."""

    input: Plan
    variable: str
    label: str
    keys: tuple[str, ...]
    values: tuple[Expression, ...]
    unique: bool = False


@dataclass(frozen=True, slots=True)
class NodeIndexIn(Plan):
    """Nodes of ``label`` whose ``key`` is in the list ``values``, by index."""

    input: Plan
    variable: str
    label: str
    key: str
    values: Expression


@dataclass(frozen=True, slots=True)
class NodeIndexRange(Plan):
    """Nodes of ``label`` whose ``key`` lies between ``low`` and ``high``, by index."""

    input: Plan
    variable: str
    label: str
    key: str
    low: Expression | None
    low_inclusive: bool
    high: Expression | None
    high_inclusive: bool


@dataclass(frozen=True, slots=True)
class NodeById(Plan):
    """``id(n) = value`` or, with ``many``, ``id(n) IN value``."""

    input: Plan
    variable: str
    value: Expression
    many: bool


@dataclass(frozen=True, slots=True)
class RelationshipScan(Plan):
    """All relationships of ``types`` with the nodes at both ends."""

    input: Plan
    variable: str
    source: str
    target: str
    types: tuple[str, ...]
    direction: Direction


@dataclass(frozen=True, slots=True)
class BoundRelationship(Plan):
    """A relationship that is bound already, as a pattern: binds or checks its ends.

    ``source_bound`` and ``target_bound`` say which ends are bound before. With ``many`` the
    variable holds a list of relationships that must form a chain.
    """

    input: Plan
    variable: str
    source: str
    target: str
    source_bound: bool
    target_bound: bool
    types: tuple[str, ...]
    direction: Direction
    many: bool = False
    minimum: int = 1
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Expand(Plan):
    """From ``source`` over one relationship to ``target``.

    ``into``: the target is bound, keep only what leads there. ``distinct_from``: columns with
    the relationships (or lists of them) of the same MATCH, which must differ from this one.
    ``relationship`` or ``target`` ``None``: nobody asks for that column.
    """

    input: Plan
    source: str
    relationship: str | None
    target: str | None
    types: tuple[str, ...]
    direction: Direction
    into: bool = False
    distinct_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VariableExpand(Plan):
    """From ``source`` over ``minimum`` to ``maximum`` relationships to ``target``.

    ``reverse``: the pattern is walked from its right end, so the list of relationships is turned
    round. ``properties``: a map that every relationship must match. ``reach``: only the set of
    nodes reached matters (a DISTINCT above), so each node is visited once.
    """

    input: Plan
    source: str
    relationship: str | None
    target: str
    types: tuple[str, ...]
    direction: Direction
    minimum: int
    maximum: int | None
    into: bool = False
    reverse: bool = False
    properties: tuple[tuple[str, Expression], ...] = ()
    distinct_from: tuple[str, ...] = ()
    reach: bool = False


@dataclass(frozen=True, slots=True)
class ShortestPath(Plan):
    """A shortest path (``every``: all of them) between two bound nodes."""

    input: Plan
    source: str
    target: str
    relationship: str
    path: str | None
    types: tuple[str, ...]
    direction: Direction
    minimum: int
    maximum: int | None
    every: bool
    properties: tuple[tuple[str, Expression], ...] = ()


@dataclass(frozen=True, slots=True)
class BuildPath(Plan):
    """Binds ``variable`` to the path through ``nodes`` and ``relationships`` (columns)."""

    input: Plan
    variable: str
    nodes: tuple[str, ...]
    relationships: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AsEntity(Plan):
    """Turns a column of any values into a column of node or relationship ids."""

    input: Plan
    variable: str
    node: bool


# --------------------------------------------------------------------------- rows to rows


@dataclass(frozen=True, slots=True)
class Filter(Plan):
    input: Plan
    predicate: Expression


@dataclass(frozen=True, slots=True)
class Extend(Plan):
    """Adds columns."""

    input: Plan
    items: tuple[tuple[str, Expression], ...]


@dataclass(frozen=True, slots=True)
class Project(Plan):
    """These columns and no others (but for hidden ones of the run)."""

    input: Plan
    items: tuple[tuple[str, Expression], ...]


@dataclass(frozen=True, slots=True)
class Prune(Plan):
    """Only those of the input's columns that are among ``names`` (and hidden ones of the run)."""

    input: Plan
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recall(Plan):
    """Adds columns of the argument again, which a projection of an inner query has dropped."""

    input: Plan
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AggregateItem:
    """``name := function([DISTINCT] arguments)``; ``count(*)`` has no arguments."""

    name: str
    function: str
    arguments: tuple[Expression, ...]
    distinct: bool


@dataclass(frozen=True, slots=True)
class Aggregation(Plan):
    input: Plan
    keys: tuple[tuple[str, Expression], ...]
    aggregates: tuple[AggregateItem, ...]


@dataclass(frozen=True, slots=True)
class Distinct(Plan):
    """Rows that differ in ``names``, and only these columns."""

    input: Plan
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sort(Plan):
    """``items``: (column, descending)."""

    input: Plan
    items: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Top(Plan):
    """Sort, then only the first ``limit`` (after ``skip``) rows, held as a bounded heap."""

    input: Plan
    items: tuple[tuple[str, bool], ...]
    limit: Expression
    skip: Expression | None


@dataclass(frozen=True, slots=True)
class Limit(Plan):
    """SKIP and LIMIT. ``exhaust``: something below writes and must run to its end."""

    input: Plan
    limit: Expression | None
    skip: Expression | None
    exhaust: bool = False


@dataclass(frozen=True, slots=True)
class Unwind(Plan):
    """One row for each element of a list. ``needed``: columns that are kept; ``None``: all."""

    input: Plan
    source: Expression
    variable: str
    needed: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ProcedureCall(Plan):
    """CALL of a built-in procedure; ``yields``: (result column, variable)."""

    input: Plan
    name: str
    arguments: tuple[Expression, ...]
    yields: tuple[tuple[str, str], ...]


# --------------------------------------------------------------------------- two inputs


@dataclass(frozen=True, slots=True)
class Optional(Plan):
    """Rows of ``inner``; an input row without any gets nulls for ``nulls`` (name, kind value)."""

    input: Plan
    inner: Plan
    row: str
    nulls: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class SemiApply(Plan):
    """Input rows for which ``inner`` has (``negated``: has not) a row."""

    input: Plan
    inner: Plan
    row: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class RollUp(Plan):
    """Adds column ``name``: of the rows of ``inner``, whether any, how many, or a list.

    ``mode``: ``exists``, ``count`` or ``collect`` (then ``value`` is the collected column).
    """

    input: Plan
    inner: Plan
    row: str
    name: str
    mode: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Cartesian(Plan):
    """Every row of ``input`` with every row of ``right``, which does not depend on the input."""

    input: Plan
    right: Plan


@dataclass(frozen=True, slots=True)
class HashJoin(Plan):
    """Rows of ``input`` and ``right`` whose keys are equal; ``right`` is held in a table."""

    input: Plan
    right: Plan
    left_keys: tuple[Expression, ...]
    right_keys: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Union(Plan):
    parts: tuple[Plan, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CountStore(Plan):
    """One row: a count that the store keeps. ``what``: ``node`` or ``relationship``."""

    input: Plan
    name: str
    what: str
    label: str | None


# --------------------------------------------------------------------------- writes


@dataclass(frozen=True, slots=True)
class CreateNode:
    variable: str
    labels: tuple[str, ...]
    properties: Expression | None


@dataclass(frozen=True, slots=True)
class CreateRelationship:
    variable: str
    type: str
    source: str
    target: str
    properties: Expression | None


@dataclass(frozen=True, slots=True)
class Create(Plan):
    """New nodes first, then relationships between them or bound ones."""

    input: Plan
    nodes: tuple[CreateNode, ...]
    relationships: tuple[CreateRelationship, ...]


@dataclass(frozen=True, slots=True)
class UpdateItem:
    """One item of SET or REMOVE.

    ``action``: ``property`` (``subject.key = value``), ``replace`` (``subject = value``),
    ``merge`` (``subject += value``), ``add_labels``, ``remove_labels``. REMOVE of a property is
    ``property`` with the value null.
    """

    action: str
    subject: Expression
    key: str = ""
    value: Expression | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Update(Plan):
    """SET and REMOVE: as if row after row ran through all items."""

    input: Plan
    items: tuple[UpdateItem, ...]


@dataclass(frozen=True, slots=True)
class Delete(Plan):
    input: Plan
    expressions: tuple[Expression, ...]
    detach: bool


@dataclass(frozen=True, slots=True)
class Merge(Plan):
    """``fast``: ``node`` (one node by its properties), ``relationship`` (one relationship between

    bound nodes) or ``""``: row by row, ``match`` for a row and, where it finds nothing, create.
    ``bound``: variables of the pattern that are bound before.
    """

    input: Plan
    match: Plan
    row: str
    nodes: tuple[CreateNode, ...]
    relationships: tuple[CreateRelationship, ...]
    path: tuple[str, tuple[str, ...], tuple[str, ...]] | None
    on_create: tuple[UpdateItem, ...]
    on_match: tuple[UpdateItem, ...]
    bound: tuple[str, ...]
    fast: str = ""
    undirected: bool = False


def children(plan: Plan) -> tuple[Plan, ...]:
    """The input plans of a node, first the one that feeds it rows."""
    found: list[Plan] = []
    for item in fields(plan):
        value: Any = getattr(plan, item.name)
        if isinstance(value, Plan):
            found.append(value)
        elif isinstance(value, tuple):
            found.extend(v for v in value if isinstance(v, Plan))
    return tuple(found)
