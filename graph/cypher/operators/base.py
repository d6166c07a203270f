"""What all operators share: the protocol, one run's state, and helpers on chunks.

An operator is immutable and is used by many threads at once. ``run(execution)`` is a generator
of chunks; whatever one run needs lives in the generator's locals or in ``Execution``. Parents
call ``stream``, which also counts rows when the client asked for a PROFILE.

Chunks that come out are at most ``execution.chunk_rows`` long and never empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from graph.cypher.budget import Budget
from graph.cypher.evaluation import Context
from graph.cypher.references import NodeRef, RelationshipRef, boxed
from graph.errors import CypherTypeError
from graph.vector import BoolArray, Chunk, IntArray, Kind, Vector

if TYPE_CHECKING:
    from graph.cypher.operators.writer import Writer

__all__ = [
    "ArgumentOperator",
    "Execution",
    "Operator",
    "concat_chunks",
    "concat_vectors",
    "entity_ids",
    "pick",
    "slices",
    "true_rows",
]

# The input of a statement that stands alone.
ONE_ROW = Chunk({}, 1)


@dataclass(slots=True)
class Execution:
    """One run of a plan."""

    context: Context
    budget: Budget
    argument: Chunk
    chunk_rows: int
    writer: Writer | None = None
    # Rows that came out of each operator, by its number; only for PROFILE.
    profile: dict[int, int] | None = None
    # The column that numbers the argument's rows, where these are to be kept apart: requests of a
    # batch, or the outer rows of an inner plan. Aggregation, DISTINCT, ORDER BY, SKIP and LIMIT
    # then work within each; None: there is one row outside.
    partition: str | None = None
    # Hidden columns that every row carries on: the partitions of this and of outer plans.
    carried: tuple[str, ...] = ()

    def inner(self, argument: Chunk, row: str) -> Execution:
        """The same run, as an inner plan sees it whose argument's rows are numbered in ``row``."""
        return replace(self, argument=argument, partition=row, carried=(row, *self.carried))

    def alone(self) -> Execution:
        """The same run for a plan that depends on no row."""
        return replace(self, argument=ONE_ROW, partition=None, carried=())


class Operator:
    """Base of operators. ``number`` is the plan node's position, for PROFILE."""

    __slots__ = ("number",)
    number: int

    def run(self, execution: Execution) -> Iterator[Chunk]:
        raise NotImplementedError

    def stream(self, execution: Execution) -> Iterator[Chunk]:
        """``run``, with rows counted for a PROFILE."""
        if execution.profile is None:
            return self.run(execution)
        return self._counted(execution, execution.profile)

    def _counted(self, execution: Execution, profile: dict[int, int]) -> Iterator[Chunk]:
        profile.setdefault(self.number, 0)
        for chunk in self.run(execution):
            profile[self.number] += chunk.length
            yield chunk


class ArgumentOperator(Operator):
    """The rows from outside."""

    __slots__ = ()

    def run(self, execution: Execution) -> Iterator[Chunk]:
        if execution.argument.length:
            yield execution.argument


def slices(chunk: Chunk, rows: int) -> Iterator[Chunk]:
    """The chunk in pieces of at most ``rows`` rows."""
    if chunk.length <= rows:
        if chunk.length:
            yield chunk
        return
    for start in range(0, chunk.length, rows):
        yield chunk.slice(start, start + rows)


def pick(chunk: Chunk, rows: IntArray, added: dict[str, Vector]) -> Chunk:
    """The chunk's rows at ``rows`` with columns added that have one element for each of them."""
    columns = {
        name: vector.take(rows) for name, vector in chunk.columns.items() if name not in added
    }
    columns.update(added)
    return Chunk(columns, len(rows))


def true_rows(vector: Vector) -> BoolArray:
    """Where a predicate's value is true (neither false nor null)."""
    if vector.kind is Kind.BOOL:
        return vector.data if vector.valid is None else vector.data & vector.valid
    if vector.kind is Kind.OBJECT:
        values = vector.data.tolist()
        wrong = next((v for v in values if v is not None and type(v) is not bool), None)
        if wrong is None:
            return np.array([v is True for v in values], dtype=np.bool_)
    elif not vector.null_mask().all():
        wrong = boxed(vector)[0]
    else:
        return np.zeros(len(vector), dtype=np.bool_)
    raise CypherTypeError(f"Expected a boolean as the predicate, but got {wrong!r}.")


def entity_ids(vector: Vector, kind: Kind) -> tuple[IntArray, BoolArray | None]:
    """Ids and validity of a column of nodes (or relationships), however it is held.

    Raises:
        CypherTypeError: a value is something else.
    """
    if vector.kind is kind:
        return vector.data, vector.valid
    expected = NodeRef if kind is Kind.NODE else RelationshipRef
    ids = np.zeros(len(vector), dtype=np.int64)
    valid = np.ones(len(vector), dtype=np.bool_)
    for row, value in enumerate(boxed(vector)):
        if value is None:
            valid[row] = False
        elif type(value) is expected:
            ids[row] = value.id
        else:
            name = "node" if kind is Kind.NODE else "relationship"
            raise CypherTypeError(f"Expected a {name}, but got {value!r}.")
    return ids, None if valid.all() else valid


def concat_vectors(vectors: Sequence[Vector]) -> Vector:
    """End to end, where ids that meet other kinds become references."""
    if len(vectors) == 1:
        return vectors[0]
    kind = vectors[0].kind
    if all(v.kind is kind for v in vectors):
        return Vector.concat(vectors)
    values: list[Any] = []
    for vector in vectors:
        values.extend(boxed(vector))
    return Vector.objects(values)


def concat_chunks(chunks: Sequence[Chunk]) -> Chunk:
    """End to end; all have the same columns."""
    if len(chunks) == 1:
        return chunks[0]
    names = chunks[0].columns
    columns = {name: concat_vectors([c.columns[name] for c in chunks]) for name in names}
    return Chunk(columns, sum(c.length for c in chunks))


def arange(length: int) -> IntArray:
    """0, 1, ... length - 1."""
    return np.arange(length, dtype=np.int64)


def where(mask: npt.NDArray[Any]) -> IntArray:
    """Positions at which the mask is true."""
    return np.flatnonzero(mask)
