"""Arithmetic on single values: ``+ - * / % ^`` and the signs, with Cypher's rules.

Integers have 64 bits and overflow is an error; integer division truncates toward zero and a zero
divisor is an error; floats follow IEEE 754, so they never fail; ``^`` always gives a float. ``+``
also joins strings (with numbers too) and lists, and moves dates by durations. Null in, null out.
The vectorised forms in ``expressions_arithmetic`` agree with these and fall back to them wherever
an error is possible, so that messages come from one place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from neo4j.time import Duration

from graph.cypher import semantics, temporal_arithmetic
from graph.cypher.temporal_values import temporal_text
from graph.errors import CypherArgumentError, CypherTypeError, LimitError

__all__ = [
    "ARITHMETIC_ERROR",
    "LIST_ELEMENTS_MAX",
    "SCALAR_OPERATORS",
    "STRING_CHARS_MAX",
    "check_int",
    "divide_floats",
    "float_text",
    "negate",
    "number_text",
    "power_floats",
]

ARITHMETIC_ERROR = "Neo.ClientError.Statement.ArithmeticError"
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
# What one value may hold: `reduce(s = 'a', i IN range(1, 60) | s + s)` would end the process.
STRING_CHARS_MAX = 64 * 1024 * 1024
LIST_ELEMENTS_MAX = 10_000_000


def check_int(value: int) -> int:
    """``value`` if it fits 64 bits.

    Raises:
        CypherArgumentError: with the code ArithmeticError.
    """
    if INT_MIN <= value <= INT_MAX:
        return value
    raise CypherArgumentError(
        "integer overflow: the result does not fit a 64-bit integer", code=ARITHMETIC_ERROR
    )


def float_text(value: float) -> str:
    """A float as Cypher writes it: ``1.0``, ``1.0E10``, ``NaN``, ``Infinity``."""
    if value != value:
        return "NaN"
    if value in (math.inf, -math.inf):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        text = repr(value)
        if "e" not in text:
            return text
    mantissa, _, exponent = f"{value:.16e}".partition("e")
    shortest = repr(value)
    digits = shortest.partition("e")[0].replace(".", "").replace("-", "").strip("0") or "0"
    mantissa = f"{'-' if value < 0 else ''}{digits[0]}.{digits[1:] or '0'}"
    return f"{mantissa}E{int(exponent)}"


def number_text(value: float) -> str:
    """A number as ``toString`` and string concatenation write it."""
    return float_text(value) if isinstance(value, float) else str(value)


def _is_number(value: Any) -> bool:
    cls = type(value)
    return cls is int or cls is float


def _mismatch(verb: str, a: Any, b: Any) -> CypherTypeError:
    return CypherTypeError(
        f"Cannot {verb} {semantics.type_name(a)} and {semantics.type_name(b)}: "
        "convert one of the operands first."
    )


def _add(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return None
    if _is_number(a) and _is_number(b):
        total = a + b
        return check_int(total) if type(total) is int else total
    if isinstance(a, str) or isinstance(b, str):
        if not isinstance(a, (list, tuple)) and not isinstance(b, (list, tuple)):
            return _join(a, b)
        return _append(a, b)
    if type(a) is list or type(a) is tuple or type(b) is list or type(b) is tuple:
        return _append(a, b)
    if isinstance(b, Duration) and semantics.is_temporal(a):
        return temporal_arithmetic.plus(a, b)
    if isinstance(a, Duration) and semantics.is_temporal(b):
        return temporal_arithmetic.plus(b, a)
    raise _mismatch("add", a, b)


def _join(a: Any, b: Any) -> str:
    left, right = _text(a, b, a), _text(a, b, b)
    if len(left) + len(right) > STRING_CHARS_MAX:
        raise LimitError(f"A string may hold at most {STRING_CHARS_MAX} characters.")
    return left + right


def _text(a: Any, b: Any, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return number_text(value)
    if semantics.is_temporal(value):
        return temporal_text(value)
    raise _mismatch("add", a, b)


def _append(a: Any, b: Any) -> list[Any]:
    left = list(a) if type(a) is list or type(a) is tuple else [a]
    right = b if type(b) is list or type(b) is tuple else [b]
    if len(left) + len(right) > LIST_ELEMENTS_MAX:
        raise LimitError(f"A list may hold at most {LIST_ELEMENTS_MAX} elements.")
    left.extend(right)
    return left


def _subtract(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return None
    if _is_number(a) and _is_number(b):
        difference = a - b
        return check_int(difference) if type(difference) is int else difference
    if isinstance(b, Duration) and semantics.is_temporal(a):
        return temporal_arithmetic.plus(a, temporal_arithmetic.negative(b))
    raise _mismatch("subtract", a, b)


def _multiply(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return None
    if _is_number(a) and _is_number(b):
        product = a * b
        return check_int(product) if type(product) is int else product
    if isinstance(a, Duration) and _is_number(b):
        return temporal_arithmetic.times(a, b)
    if isinstance(b, Duration) and _is_number(a):
        return temporal_arithmetic.times(b, a)
    raise _mismatch("multiply", a, b)


def divide_floats(a: float, b: float) -> float:
    """IEEE 754 division: zero divisors give infinities or NaN."""
    if b == 0:
        if a == 0 or a != a:
            return math.nan
        return math.copysign(math.inf, a) * math.copysign(1.0, b)
    return a / b


def _zero_divisor() -> CypherArgumentError:
    return CypherArgumentError("/ by zero: the divisor of integers is 0", code=ARITHMETIC_ERROR)


def _divide(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return None
    if _is_number(a) and _is_number(b):
        if type(a) is int and type(b) is int:
            if b == 0:
                raise _zero_divisor()
            quotient = abs(a) // abs(b)
            return check_int(quotient if (a < 0) == (b < 0) else -quotient)
        return divide_floats(float(a), float(b))
    if isinstance(a, Duration) and _is_number(b):
        if b == 0:
            raise _zero_divisor()
        return temporal_arithmetic.times(a, 1 / temporal_arithmetic.fraction(b))
    raise _mismatch("divide", a, b)


def _modulo(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return None
    if not (_is_number(a) and _is_number(b)):
        raise _mismatch("take the remainder of", a, b)
    if type(a) is int and type(b) is int:
        if b == 0:
            raise _zero_divisor()
        rest = abs(a) % abs(b)
        return rest if a >= 0 else -rest
    if b == 0 or a in (math.inf, -math.inf):
        return math.nan
    return math.fmod(a, b)


def power_floats(a: float, b: float) -> float:
    """IEEE 754 power: never an error, never a complex number."""
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and b % 2 == 1 else math.inf
    except ValueError:
        if a == 0:
            return math.copysign(math.inf, a) if b % 2 == 1 else math.inf
        return math.nan


def _power(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return None
    if _is_number(a) and _is_number(b):
        return power_floats(float(a), float(b))
    raise _mismatch("raise to a power", a, b)


def negate(value: Any) -> Any:
    """``-value``."""
    if value is None:
        return None
    if type(value) is int:
        return check_int(-value)
    if type(value) is float:
        return -value
    if isinstance(value, Duration):
        return temporal_arithmetic.negative(value)
    raise CypherTypeError(f"Cannot negate a {semantics.type_name(value)}: give a number.")


SCALAR_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "/": _divide,
    "%": _modulo,
    "^": _power,
}
