"""Vectorised arithmetic on INT and FLOAT vectors.

A kernel gives ``None`` where it sees that an integer might overflow or a divisor is zero, in a
null's place or not: then the whole chunk goes through the scalar operators of ``arithmetic``, which
know about nulls and raise the error if there is one. So the fast path needs no exact test, only one
that never misses. Chunks of a few rows take the scalar path at once: below ``SMALL_ROWS`` the fixed
cost of NumPy calls is larger.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from graph.cypher.arithmetic import SCALAR_OPERATORS, negate
from graph.cypher.evaluation import Compiled, Context
from graph.cypher.references import boxed, tighten
from graph.errors import CypherTypeError
from graph.vector import BoolArray, Chunk, Kind, Vector

__all__ = ["SMALL_ROWS", "ArithmeticNode", "NegateNode", "PlusNode", "both_valid"]

# Rows up to which a loop over Python values beats NumPy (measured: the break-even is near 6).
SMALL_ROWS = 4
INT_MIN = -(2**63)
# Products whose float estimate stays below this cannot overflow, whatever the rounding.
SAFE_PRODUCT = 2.0**62

Array = npt.NDArray[Any]


def _safe_add(a: Array, b: Array) -> Array | None:
    total = a + b
    overflow = ((a ^ total) & (b ^ total)) < 0
    return None if overflow.any() else total


def _safe_subtract(a: Array, b: Array) -> Array | None:
    difference = a - b
    overflow = ((a ^ b) & (a ^ difference)) < 0
    return None if overflow.any() else difference


def _safe_multiply(a: Array, b: Array) -> Array | None:
    estimate = np.abs(a.astype(np.float64) * b.astype(np.float64))
    return None if (estimate >= SAFE_PRODUCT).any() else a * b


def _safe_divide(a: Array, b: Array) -> Array | None:
    if (b == 0).any() or (a == INT_MIN).any():
        return None
    quotient = a // b
    quotient += (quotient * b != a) & ((a < 0) != (b < 0))
    return quotient


def _safe_modulo(a: Array, b: Array) -> Array | None:
    if (b == 0).any() or (a == INT_MIN).any():
        return None
    return np.asarray(np.fmod(a, b))


_INT_KERNELS: dict[str, Callable[[Array, Array], Array | None]] = {
    "+": _safe_add,
    "-": _safe_subtract,
    "*": _safe_multiply,
    "/": _safe_divide,
    "%": _safe_modulo,
}
_FLOAT_KERNELS: dict[str, Callable[[Array, Array], Array]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
}
_NUMERIC = (Kind.INT, Kind.FLOAT)


def both_valid(a: Vector, b: Vector, length: int) -> BoolArray | None:
    """Where both operands, one of which may be a constant of length 1, are not null."""
    if a.valid is None and b.valid is None:
        return None
    if a.valid is None or b.valid is None:
        valid = a.valid if b.valid is None else b.valid
        assert valid is not None
    else:
        valid = a.valid & b.valid
    return valid if len(valid) == length else np.repeat(valid, length)


class ArithmeticNode(Compiled):
    """``left operator right`` for one of ``+ - * / % ^``."""

    __slots__ = ("left", "operator", "right", "scalar")

    def __init__(self, operator: str, left: Compiled, right: Compiled) -> None:
        super().__init__(left, right)
        self.operator = operator
        self.left = left
        self.right = right
        self.scalar = SCALAR_OPERATORS[operator]

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        left = self.left.operand(chunk, context)
        right = self.right.operand(chunk, context)
        length = chunk.length
        if length > SMALL_ROWS and left.kind in _NUMERIC and right.kind in _NUMERIC:
            vector = self._typed(left, right, length)
            if vector is not None:
                return vector
        scalar = self.scalar
        pairs = zip(boxed(left, length), boxed(right, length), strict=True)
        return tighten([scalar(a, b) for a, b in pairs])

    def _typed(self, left: Vector, right: Vector, length: int) -> Vector | None:
        operator = self.operator
        valid = both_valid(left, right, length)
        if operator == "^":
            # NumPy's power differs from C's in the last digit on some machines; agree with the
            # scalar path, which is C's.
            return None
        with np.errstate(all="ignore"):
            if left.kind is Kind.INT and right.kind is Kind.INT:
                data = _INT_KERNELS[operator](left.data, right.data)
                if data is None:
                    return None
                return Vector(Kind.INT, _full(data, length), valid)
            a = left.data.astype(np.float64, copy=False)
            b = right.data.astype(np.float64, copy=False)
            return Vector(Kind.FLOAT, _full(_FLOAT_KERNELS[operator](a, b), length), valid)


def _full(data: Array, length: int) -> Array:
    return data if len(data) == length else np.repeat(data, length)


class NegateNode(Compiled):
    """``-operand``."""

    __slots__ = ("operand_node",)

    def __init__(self, operand: Compiled) -> None:
        super().__init__(operand)
        self.operand_node = operand

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        vector = self.operand_node.evaluate(chunk, context)
        if vector.kind is Kind.FLOAT:
            return Vector(Kind.FLOAT, -vector.data, vector.valid)
        if vector.kind is Kind.INT and not (vector.data == INT_MIN).any():
            return Vector(Kind.INT, -vector.data, vector.valid)
        return tighten([negate(value) for value in boxed(vector)])


class PlusNode(Compiled):
    """``+operand``: the operand, which must be a number."""

    __slots__ = ("operand_node",)

    def __init__(self, operand: Compiled) -> None:
        super().__init__(operand)
        self.operand_node = operand

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        vector = self.operand_node.evaluate(chunk, context)
        if vector.kind not in _NUMERIC:
            for value in boxed(vector):
                if value is not None and type(value) not in (int, float):
                    raise CypherTypeError("Type mismatch: the sign + needs a number.")
        return vector
