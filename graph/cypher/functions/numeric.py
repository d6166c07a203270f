"""Numeric, logarithmic and trigonometric functions: IEEE 754 throughout, never an error for a
number (the logarithm of a negative number is NaN)."""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graph.cypher.arithmetic import check_int
from graph.cypher.evaluation import Context
from graph.cypher.functions.definition import (
    Family,
    argument_error,
    expect_int,
    expect_number,
    expect_string,
)
from graph.vector import Kind, Vector

__all__ = ["FAMILY"]

FAMILY = Family()

INT_MIN = -(2**63)


def _abs_vector(context: Context, arguments: Sequence[Vector], length: int) -> Vector | None:
    vector = arguments[0]
    if len(vector) != length or vector.kind not in (Kind.INT, Kind.FLOAT):
        return None
    if vector.kind is Kind.INT and (vector.data == INT_MIN).any():
        return None
    return Vector(vector.kind, np.abs(vector.data), vector.valid)


@FAMILY.add("abs", 1, vector=_abs_vector)
def absolute(value: Any) -> float:
    number = abs(expect_number("abs", value))
    return check_int(number) if isinstance(number, int) else number


@FAMILY.add("sign", 1)
def sign(value: Any) -> int:
    number = expect_number("sign", value)
    return (number > 0) - (number < 0)


@FAMILY.add("ceil", 1)
def ceil(value: Any) -> float:
    number = float(expect_number("ceil", value))
    return float(math.ceil(number)) if math.isfinite(number) else number


@FAMILY.add("floor", 1)
def floor(value: Any) -> float:
    number = float(expect_number("floor", value))
    return float(math.floor(number)) if math.isfinite(number) else number


_MODES = {
    "UP": decimal.ROUND_UP,
    "DOWN": decimal.ROUND_DOWN,
    "CEILING": decimal.ROUND_CEILING,
    "FLOOR": decimal.ROUND_FLOOR,
    "HALF_UP": decimal.ROUND_HALF_UP,
    "HALF_DOWN": decimal.ROUND_HALF_DOWN,
    "HALF_EVEN": decimal.ROUND_HALF_EVEN,
}
PRECISION_MAX = 400  # beyond it no digit of a double is left to round


@FAMILY.add("round", 1, 3)
def round_number(value: Any, precision: Any = 0, mode: Any = None) -> float:
    """Ties go up without a precision (-1.5 gives -1.0), away from zero with one."""
    number = float(expect_number("round", value))
    digits = expect_int("round", precision)
    if not math.isfinite(number):
        return number
    if mode is None and digits == 0:
        lower = math.floor(number)
        return float(lower if number - lower < 0.5 else lower + 1)
    name = "HALF_UP" if mode is None else expect_string("round", mode).upper()
    if name not in _MODES:
        raise argument_error("round", f"unknown mode; known are {', '.join(_MODES)}.")
    if digits < 0:
        raise argument_error("round", "the precision must not be negative.")
    with decimal.localcontext() as settings:
        settings.prec = 2 * PRECISION_MAX
        unit = decimal.Decimal(1).scaleb(-min(digits, PRECISION_MAX))
        return float(decimal.Decimal(repr(number)).quantize(unit, rounding=_MODES[name]))


@FAMILY.add("isNaN", 1)
def is_nan(value: Any) -> bool:
    number = expect_number("isNaN", value)
    return number != number


@FAMILY.add("pi", 0)
def pi() -> float:
    return math.pi


@FAMILY.add("e", 0)
def euler() -> float:
    return math.e


@FAMILY.add("sqrt", 1)
def sqrt(value: Any) -> float:
    number = expect_number("sqrt", value)
    return math.sqrt(number) if number >= 0 else math.nan


def _logarithm(name: str, function: Callable[[float], float]) -> Callable[[Any], float]:
    def logarithm(value: Any) -> float:
        number = expect_number(name, value)
        if number > 0:
            return function(number)
        return -math.inf if number == 0 else math.nan

    return logarithm


FAMILY.add("log ln", 1)(_logarithm("log", math.log))
FAMILY.add("log10", 1)(_logarithm("log10", math.log10))


@FAMILY.add("exp", 1)
def exp(value: Any) -> float:
    number = float(expect_number("exp", value))
    try:
        return math.exp(number)
    except OverflowError:
        return math.inf


def _guarded(name: str, function: Callable[[float], float], value: Any, beyond: float) -> float:
    number = float(expect_number(name, value))
    try:
        return function(number)
    except ValueError:
        return math.nan
    except OverflowError:
        return beyond if number > 0 else -beyond


def _haversine(angle: float) -> float:
    return (1 - math.cos(angle)) / 2


def _cotangent(angle: float) -> float:
    tangent = math.tan(angle)
    return 1 / tangent if tangent else math.copysign(math.inf, tangent)


_UNARY: dict[str, Callable[[float], float]] = {
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "cot": _cotangent,
    "coth": lambda x: 1 / math.tanh(x) if x else math.nan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "tanh": math.tanh,
    "degrees": math.degrees,
    "radians": math.radians,
    "haversin": _haversine,
}


def _unary(name: str, function: Callable[[float], float]) -> Callable[[Any], float]:
    return lambda value: _guarded(name, function, value, math.inf)


for _name, _function in _UNARY.items():
    FAMILY.add(_name, 1)(_unary(_name, _function))


@FAMILY.add("atan2", 2)
def atan2(y: Any, x: Any) -> float:
    return math.atan2(expect_number("atan2", y), expect_number("atan2", x))
