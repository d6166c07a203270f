"""Three-valued logic and choice: AND, OR, XOR, NOT, CASE, coalesce.

AND and OR evaluate an operand only for the rows that the operands before it have not decided;
CASE evaluates a branch only for the rows that take it. So ``x <> 0 AND 10 / x > 1`` and ``CASE
WHEN x = 0 THEN 0 ELSE 1 / x END`` do not fail on zeros, whatever else is in the chunk.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graph.cypher import semantics
from graph.cypher.evaluation import Compiled, Context, bool_vector, narrow, scatter
from graph.cypher.expressions_comparison import compare_vectors
from graph.cypher.references import boxed
from graph.errors import CypherTypeError
from graph.vector import BoolArray, Chunk, IntArray, Kind, Vector

__all__ = [
    "CaseNode",
    "CoalesceNode",
    "JunctionNode",
    "NotNode",
    "XorNode",
    "as_bools",
    "true_rows",
]


def as_bools(vector: Vector) -> tuple[BoolArray, BoolArray | None]:
    """(where true, where not null or ``None`` if nowhere null) of a vector of truth values.

    Raises:
        CypherTypeError: an element is neither a boolean nor null.
    """
    if vector.kind is not Kind.BOOL:
        values = boxed(vector)
        for value in values:
            if value is not None and value is not True and value is not False:
                raise CypherTypeError(
                    "Type mismatch: expected a Boolean but was "
                    f"{semantics.type_name(value)}: compare it with something."
                )
        vector = bool_vector(values) if values else Vector.nulls(Kind.BOOL, 0)
    if vector.valid is None:
        return vector.data, None
    return vector.data & vector.valid, vector.valid


def true_rows(vector: Vector) -> BoolArray:
    """Where a predicate holds: null counts as false.

    Raises:
        CypherTypeError: an element is neither a boolean nor null.
    """
    return as_bools(vector)[0]


class JunctionNode(Compiled):
    """AND or OR of two or more operands.

    AND is decided by false, OR by true; what is left is null if any operand was null, else the
    other truth value.
    """

    __slots__ = ("conjunction", "names", "operands")

    def __init__(
        self, conjunction: bool, operands: Sequence[Compiled], names: frozenset[str]
    ) -> None:
        super().__init__(*operands)
        self.names = names
        self.conjunction = conjunction
        self.operands = tuple(operands)

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        length = chunk.length
        if length == 1:
            return self._one_row(chunk, context)
        decided = np.zeros(length, dtype=np.bool_)
        unknown: BoolArray | None = None
        rows: IntArray | None = None  # the undecided rows, once there are decided ones
        part = chunk
        for operand in self.operands:
            true, valid = as_bools(operand.evaluate(part, context))
            decides = true if not self.conjunction else ~true if valid is None else valid & ~true
            if valid is not None and not valid.all():
                unknown = np.zeros(length, dtype=np.bool_) if unknown is None else unknown
                unknown[rows if rows is not None else slice(None)] |= ~valid
            if decides.any():
                decided[rows if rows is not None else slice(None)] = decides
                rows = np.flatnonzero(~decided)
                if not len(rows):
                    break
                part = narrow(chunk, self.names).take(rows, len(rows))
        data = ~decided if self.conjunction else decided
        if unknown is None:
            return Vector(Kind.BOOL, data)
        return Vector(Kind.BOOL, data, decided | ~unknown)

    def _one_row(self, chunk: Chunk, context: Context) -> Vector:
        result: bool | None = self.conjunction
        for operand in self.operands:
            true, valid = as_bools(operand.evaluate(chunk, context))
            if valid is not None and not valid[0]:
                result = None
            elif true[0] != self.conjunction:
                return bool_vector((not self.conjunction,))
        return bool_vector((result,))


class XorNode(Compiled):
    """``left XOR right``: null if either is."""

    __slots__ = ("left", "right")

    def __init__(self, left: Compiled, right: Compiled) -> None:
        super().__init__(left, right)
        self.left = left
        self.right = right

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        a, a_valid = as_bools(self.left.evaluate(chunk, context))
        b, b_valid = as_bools(self.right.evaluate(chunk, context))
        valid = a_valid
        if b_valid is not None:
            valid = b_valid if valid is None else valid & b_valid
        return Vector(Kind.BOOL, a ^ b, valid)


class NotNode(Compiled):
    """``NOT operand``."""

    __slots__ = ("operand_node",)

    def __init__(self, operand: Compiled) -> None:
        super().__init__(operand)
        self.operand_node = operand

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        true, valid = as_bools(self.operand_node.evaluate(chunk, context))
        return Vector(Kind.BOOL, ~true, valid)


class CaseNode(Compiled):
    """Both forms of CASE; with a subject the conditions are values it is compared with."""

    __slots__ = ("branches", "names", "otherwise", "subject")

    def __init__(
        self,
        subject: Compiled | None,
        branches: Sequence[tuple[Compiled, Compiled]],
        otherwise: Compiled | None,
        names: frozenset[str],
    ) -> None:
        children = [node for branch in branches for node in branch]
        children += [node for node in (subject, otherwise) if node is not None]
        super().__init__(*children)
        self.subject = subject
        self.names = names
        self.branches = tuple(branches)
        self.otherwise = otherwise

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        length = chunk.length
        subject = None if self.subject is None else self.subject.evaluate(chunk, context)
        rows = np.arange(length)
        part = narrow(chunk, self.names)
        pieces: list[tuple[IntArray, Vector]] = []
        for condition, value in self.branches:
            if not len(rows):
                break
            if subject is None:
                taken = true_rows(condition.evaluate(part, context))
            else:
                other = condition.evaluate(part, context)
                taken = true_rows(compare_vectors("=", subject, other, part.length))
            if not taken.any():
                continue
            chosen = part if taken.all() else part.take(taken, int(taken.sum()))
            pieces.append((rows[taken], value.evaluate(chosen, context)))
            left = ~taken
            rows = rows[left]
            part = part.take(left, len(rows))
            subject = None if subject is None else subject.take(left)
        if len(rows) and self.otherwise is not None:
            pieces.append((rows, self.otherwise.evaluate(part, context)))
        if len(pieces) == 1 and len(pieces[0][0]) == length:
            return pieces[0][1]
        return scatter(pieces, length) if pieces else Vector.nulls(Kind.OBJECT, length)


class CoalesceNode(Compiled):
    """``coalesce(a, b, ...)``: the first that is not null; later ones only where needed."""

    __slots__ = ("arguments", "names")

    def __init__(self, arguments: Sequence[Compiled], names: frozenset[str]) -> None:
        super().__init__(*arguments)
        self.names = names
        self.arguments = tuple(arguments)

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        length = chunk.length
        rows = np.arange(length)
        part = narrow(chunk, self.names)
        pieces: list[tuple[IntArray, Vector]] = []
        for argument in self.arguments:
            vector = argument.evaluate(part, context)
            missing = vector.null_mask()
            if not missing.any():
                pieces.append((rows, vector))
                rows = rows[:0]
                break
            if not missing.all():
                present = ~missing
                pieces.append((rows[present], vector.take(present)))
            rows = rows[missing]
            part = part.take(missing, len(rows))
        if len(pieces) == 1 and len(pieces[0][0]) == length:
            return pieces[0][1]
        return scatter(pieces, length) if pieces else Vector.nulls(Kind.OBJECT, length)
