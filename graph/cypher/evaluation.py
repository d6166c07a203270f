"""What evaluating an expression needs, and what a compiled expression is.

``compile_expression`` turns a syntax tree into a tree of small slotted ``Compiled`` objects,
immutable and shared by all runs of a plan. ``evaluate(chunk, context)`` gives a vector as long as
the chunk. ``operand`` may give instead a vector of length 1 where the value is the same for every
row (literals, parameters, and what is computed of them): kernels broadcast it, so that
``n.age > $x`` never materialises ``$x`` 2,048 times.

``Context`` holds what belongs to one run: the root, the parameters, the statement's clock and
random source, the limits. When one run of a plan serves many requests (``parameter_columns``), a
parameter is a column too: request ``i``'s value stands at position ``i`` and the chunk's hidden
column ``@request`` says which request a row belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from neo4j.time import DateTime

from graph.cypher.graves import Graves
from graph.cypher.references import boxed, tighten
from graph.errors import CypherArgumentError, GraphError
from graph.values import Node, Relationship
from graph.vector import BoolArray, Chunk, IntArray, Kind, Vector

if TYPE_CHECKING:
    from random import Random

__all__ = [
    "REQUEST_COLUMN",
    "Budget",
    "Compiled",
    "Context",
    "Graph",
    "Scope",
    "bool_vector",
    "dead_entity",
    "empty_vector",
    "missing_parameter",
    "narrow",
    "one_row",
    "scatter",
    "with_nulls",
]

REQUEST_COLUMN = "@request"
PARAMETER_MISSING = "Neo.ClientError.Statement.ParameterMissing"
ENTITY_NOT_FOUND = "Neo.ClientError.Statement.EntityNotFound"


class Graph(Protocol):
    """The reads of a root that expressions use; ``graph.store.Root`` has them."""

    def nodes(self, ids: IntArray, /) -> list[Node]: ...
    def relationships(self, ids: IntArray, /) -> list[Relationship]: ...
    def nodes_alive(self, ids: IntArray, /) -> BoolArray: ...
    def relationships_alive(self, ids: IntArray, /) -> BoolArray: ...
    def node_property(self, ids: IntArray, key: str, /) -> Vector: ...
    def relationship_property(self, ids: IntArray, key: str, /) -> Vector: ...
    def node_properties(self, node_id: int, /) -> dict[str, Any]: ...
    def relationship_properties(self, relationship_id: int, /) -> dict[str, Any]: ...
    def has_label(self, ids: IntArray, label: str, /) -> BoolArray: ...
    def labels_of(self, node_id: int, /) -> tuple[str, ...]: ...
    def relationship_types(self, ids: IntArray, /) -> IntArray: ...
    def type_name(self, type_id: int, /) -> str: ...
    def relationship_ends(self, ids: IntArray, /) -> tuple[IntArray, IntArray]: ...


class Budget(Protocol):
    """Memory of one statement."""

    def charge(self, size_bytes: int, /) -> None:
        """Count memory that will be held; raises LimitError when the budget is used up."""


class _NoBudget:
    def charge(self, size_bytes: int, /) -> None:
        """Unlimited: for constant folding and tests."""


def _no_deadline() -> None:
    """No deadline."""


@dataclass(slots=True)
class Context:
    """One run of a plan. Not shared between threads."""

    root: Any
    parameters: Mapping[str, Any]
    # Time of the statement, given from outside: the engine reads no clock of its own.
    now: DateTime
    random: Random
    parameter_columns: Mapping[str, Vector] | None = None
    # Called between pieces of work of a few milliseconds; raises when time is up.
    deadline_check: Callable[[], None] = _no_deadline
    budget: Budget = field(default_factory=_NoBudget)
    # Whether reading an entity that this transaction deleted must be noticed; statements that
    # delete nothing may switch it off.
    check_deleted: bool = True
    # Relationships that this statement has deleted: their types can still be asked for.
    graves: Graves | None = None
    # Values computed once per run, by the object that computes them.
    cache: dict[Any, Any] = field(default_factory=dict)

    def parameter(self, name: str) -> Any:
        """The value of ``$name``.

        Raises:
            CypherArgumentError: with the code ParameterMissing.
        """
        try:
            return self.parameters[name]
        except KeyError:
            raise missing_parameter(name) from None


def missing_parameter(name: str) -> CypherArgumentError:
    return CypherArgumentError(f"Expected parameter(s): {name}", code=PARAMETER_MISSING)


class Scope:
    """The variables an expression may use, with their static kinds where known."""

    __slots__ = ("kinds",)

    def __init__(self, kinds: Mapping[str, Kind | None]) -> None:
        self.kinds = dict(kinds)

    def child(self, variables: Mapping[str, Kind | None]) -> Scope:
        """This scope with more variables, which shadow those of the same name."""
        return Scope({**self.kinds, **variables})

    def __contains__(self, name: str) -> bool:
        return name in self.kinds


class Compiled:
    """A compiled expression. Immutable; one object serves all threads.

    ``constant``: all rows have one value, as literals, parameters (unless batched) and what is
    computed of them alone. ``parametric``: it depends on parameters, so a constant varies by
    request when batched. ``volatile``: two evaluations may differ (``rand()``).
    """

    __slots__ = ("constant", "parametric", "volatile")

    constant: bool
    parametric: bool
    volatile: bool

    def __init__(self, *children: Compiled, volatile: bool = False) -> None:
        self.volatile = volatile or any(child.volatile for child in children)
        self.constant = not self.volatile and all(child.constant for child in children)
        self.parametric = any(child.parametric for child in children)

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        """The value for each row of the chunk.

        Raises:
            CypherTypeError, CypherArgumentError, LimitError: as the operation says.
        """
        raise NotImplementedError

    def operand(self, chunk: Chunk, context: Context) -> Vector:
        """As ``evaluate``, but a constant may come as a vector of length 1."""
        return self.evaluate(chunk, context)

    def fixed(self, context: Context) -> bool:
        """Whether ``value`` may be asked in this run."""
        return self.constant and not (self.parametric and context.parameter_columns is not None)

    def value(self, context: Context) -> Any:
        """The one value of a constant; only if ``fixed``."""
        assert self.fixed(context), "only a constant has a value without a row"
        cached = context.cache.get(self)
        if cached is None:
            cached = context.cache[self] = self.evaluate(one_row(), context)
        return boxed(cached)[0]


def one_row() -> Chunk:
    """A chunk of one row without columns: where constants are evaluated."""
    return Chunk({}, 1)


# ----------------------------------------------------------------------------- vectors

# Comparisons of single rows end in one of these; vectors are immutable, so they can be shared.
_ONE_TRUE = Vector(Kind.BOOL, np.ones(1, np.bool_))
_ONE_FALSE = Vector(Kind.BOOL, np.zeros(1, np.bool_))
_ONE_NULL = Vector(Kind.BOOL, np.zeros(1, np.bool_), np.zeros(1, np.bool_))


def bool_vector(values: Sequence[bool | None]) -> Vector:
    """A BOOL vector of ``True``, ``False`` and ``None`` (null)."""
    if len(values) == 1:
        value = values[0]
        return _ONE_NULL if value is None else _ONE_TRUE if value else _ONE_FALSE
    count = len(values)
    if None in values:
        valid = np.fromiter((v is not None for v in values), dtype=np.bool_, count=count)
        return Vector(Kind.BOOL, np.fromiter(map(bool, values), np.bool_, count=count), valid)
    return Vector(Kind.BOOL, np.fromiter(values, dtype=np.bool_, count=count))


def empty_vector() -> Vector:
    """A vector without rows."""
    return Vector.nulls(Kind.OBJECT, 0)


def with_nulls(vector: Vector, valid: npt.NDArray[np.bool_] | None) -> Vector:
    """``vector`` with nulls also where ``valid`` is false."""
    if valid is None:
        return vector
    if vector.typed:
        both = valid if vector.valid is None else vector.valid & valid
        return Vector(vector.kind, vector.data, both)
    data = vector.data.copy()
    data[~valid] = None
    return Vector(vector.kind, data)


def narrow(chunk: Chunk, names: frozenset[str]) -> Chunk:
    """The chunk with only the columns that are read, so that taking rows of it costs less."""
    columns = {
        name: vector
        for name, vector in chunk.columns.items()
        if name in names or name == REQUEST_COLUMN
    }
    return Chunk(columns, chunk.length)


def scatter(pieces: Sequence[tuple[IntArray, Vector]], length: int) -> Vector:
    """Put vectors computed for some rows each back in place; rows in no piece are null."""
    kinds = {vector.kind for _, vector in pieces}
    covered = sum(len(rows) for rows, _ in pieces)
    if len(kinds) == 1 and (kind := next(iter(kinds))) < Kind.STRING:
        data = np.zeros(length, dtype=pieces[0][1].data.dtype)
        valid = np.zeros(length, dtype=np.bool_)
        for rows, vector in pieces:
            data[rows] = vector.data
            valid[rows] = True if vector.valid is None else vector.valid
        return Vector(kind, data, None if covered == length and valid.all() else valid)
    values: list[Any] = [None] * length
    for rows, vector in pieces:
        for row, value in zip(rows.tolist(), boxed(vector), strict=True):
            values[row] = value
    return tighten(values)


def dead_entity(kind: Kind, id: int) -> GraphError:
    """The error for reading a node or relationship that this statement deleted."""
    name = "Node" if kind is Kind.NODE else "Relationship"
    return GraphError(
        f"{name} {id} has been deleted, so its data can no longer be read.", code=ENTITY_NOT_FOUND
    )
