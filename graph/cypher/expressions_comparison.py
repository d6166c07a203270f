"""Vectorised comparison: ``= <> < <= > >=``, chains of them, and string predicates.

Typed pairs (numbers, booleans, nodes, relationships, strings) are compared by NumPy or by a tight
loop; everything else pair by pair with ``semantics``. An INT meets a FLOAT as a float only while
every integer is exact as one (below 2^53): Cypher compares the numbers, not their roundings.
"""

from __future__ import annotations

import operator as operators
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from graph.cypher.evaluation import Compiled, Context, bool_vector
from graph.cypher.expressions_arithmetic import SMALL_ROWS, both_valid
from graph.cypher.references import boxed
from graph.cypher.semantics import UNORDERED, compare, equals
from graph.vector import BoolArray, Chunk, Kind, Vector

__all__ = ["CompareNode", "StringPredicateNode", "compare_vectors"]

EXACT_FLOAT_INT = 2**53

Array = npt.NDArray[Any]
Pair = Callable[[Any, Any], Any]

_PYTHON: dict[str, Pair] = {
    "=": operators.eq,
    "<>": operators.ne,
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}


def _equal(a: Any, b: Any) -> bool | None:
    return equals(a, b)


def _unequal(a: Any, b: Any) -> bool | None:
    equal = equals(a, b)
    return None if equal is None else not equal


def _less(a: Any, b: Any) -> bool | None:
    order = compare(a, b)
    return None if order is None else order == -1


def _less_or_equal(a: Any, b: Any) -> bool | None:
    order = compare(a, b)
    return None if order is None else order <= 0


def _greater(a: Any, b: Any) -> bool | None:
    order = compare(a, b)
    return None if order is None else order == 1


def _greater_or_equal(a: Any, b: Any) -> bool | None:
    order = compare(a, b)
    return None if order is None else 0 <= order != UNORDERED


SCALAR_COMPARISONS: dict[str, Callable[[Any, Any], bool | None]] = {
    "=": _equal,
    "<>": _unequal,
    "<": _less,
    "<=": _less_or_equal,
    ">": _greater,
    ">=": _greater_or_equal,
}
_IDENTITIES = (Kind.NODE, Kind.RELATIONSHIP)


class CompareNode(Compiled):
    """``left operator right``."""

    __slots__ = ("left", "operator", "python", "right", "scalar")

    def __init__(self, operator: str, left: Compiled, right: Compiled) -> None:
        super().__init__(left, right)
        self.operator = operator
        self.left = left
        self.right = right
        self.python = _PYTHON[operator]
        self.scalar = SCALAR_COMPARISONS[operator]

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        left = self.left.operand(chunk, context)
        right = self.right.operand(chunk, context)
        return compare_vectors(self.operator, left, right, chunk.length)


def compare_vectors(operator: str, left: Vector, right: Vector, length: int) -> Vector:
    """The comparison of two vectors, either of which may be a constant of length 1."""
    a_kind, b_kind = left.kind, right.kind
    if a_kind is b_kind:
        if a_kind is Kind.STRING:
            return _strings(operator, left, right, length)
        if a_kind is not Kind.OBJECT and (a_kind not in _IDENTITIES or operator in ("=", "<>")):
            if length <= SMALL_ROWS:
                return _few(operator, left, right, length)
            return _numpy(operator, left, right, length)
    elif (a_kind is Kind.INT and b_kind is Kind.FLOAT) or (
        a_kind is Kind.FLOAT and b_kind is Kind.INT
    ):
        if length <= SMALL_ROWS:
            return _few(operator, left, right, length)
        integers = left.data if a_kind is Kind.INT else right.data
        exact = (integers <= EXACT_FLOAT_INT) & (integers >= -EXACT_FLOAT_INT)
        if exact.all():
            return _numpy(operator, left, right, length)
    scalar = SCALAR_COMPARISONS[operator]
    pairs = zip(boxed(left, length), boxed(right, length), strict=True)
    return bool_vector([scalar(a, b) for a, b in pairs])


def _few(operator: str, left: Vector, right: Vector, length: int) -> Vector:
    """A few rows of one typed kind, or of numbers: Python's own comparison is Cypher's here."""
    python = _PYTHON[operator]
    if length == 1 and left.valid is None and right.valid is None:
        return bool_vector((python(left.data.item(), right.data.item()),))
    pairs = zip(_plain(left, length), _plain(right, length), strict=True)
    return bool_vector([None if a is None or b is None else python(a, b) for a, b in pairs])


def _plain(vector: Vector, length: int) -> list[Any]:
    values = vector.to_list()
    return values if len(values) == length else values * length


def _numpy(operator: str, left: Vector, right: Vector, length: int) -> Vector:
    data: Array = _PYTHON[operator](left.data, right.data)
    if len(data) != length:
        data = np.repeat(data, length)
    return Vector(Kind.BOOL, data, both_valid(left, right, length))


def not_null(left: Vector, right: Vector, length: int) -> BoolArray | None:
    """Where two STRING vectors, either of which may be a constant, are both not null."""
    if None not in left.data.tolist() and None not in right.data.tolist():
        return None
    missing = left.null_mask() | right.null_mask()
    return ~missing if len(missing) == length else np.repeat(~missing, length)


def _strings(operator: str, left: Vector, right: Vector, length: int) -> Vector:
    python = _PYTHON[operator]
    if length > SMALL_ROWS and operator in ("=", "<>"):
        # On object arrays NumPy compares with Python's own operator, in C.
        data: Array = python(left.data, right.data)
        present = not_null(left, right, length)
        return Vector(Kind.BOOL, data if len(data) == length else np.repeat(data, length), present)
    a, b = left.data.tolist(), right.data.tolist()
    if len(b) == 1 and length != 1:
        constant = b[0]
        if constant is None:
            return Vector.nulls(Kind.BOOL, length)
        return bool_vector(
            [None if x is None else python(x, constant) for x in (a if len(a) > 1 else a * length)]
        )
    if len(a) == 1 and length != 1:
        a = a * length
    return bool_vector(
        [None if x is None or y is None else python(x, y) for x, y in zip(a, b, strict=True)]
    )


_STRING_TESTS: dict[str, Callable[[str, str], bool]] = {
    "STARTS_WITH": str.startswith,
    "ENDS_WITH": str.endswith,
    "CONTAINS": str.__contains__,
}


class StringPredicateNode(Compiled):
    """``STARTS WITH``, ``ENDS WITH``, ``CONTAINS``: null unless both operands are strings."""

    __slots__ = ("left", "right", "test")

    def __init__(self, operator: str, left: Compiled, right: Compiled) -> None:
        super().__init__(left, right)
        self.left = left
        self.right = right
        self.test = _STRING_TESTS[operator]

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        test = self.test
        subject = self.left.operand(chunk, context)
        pattern = self.right.operand(chunk, context)
        if subject.kind is Kind.STRING and pattern.kind is Kind.STRING and len(pattern) == 1:
            mark = pattern.data[0]
            if mark is not None and len(subject) == chunk.length:
                values = subject.data.tolist()
                return bool_vector([None if a is None else test(a, mark) for a in values])
        left = boxed(subject, chunk.length)
        right = boxed(pattern, chunk.length)
        return bool_vector(
            [
                test(a, b) if a.__class__ is str and b.__class__ is str else None
                for a, b in zip(left, right, strict=True)
            ]
        )
