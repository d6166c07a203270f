"""Scalar functions that fit no other family: conversion, size, clock, identity of types.

``coalesce`` and ``exists`` are forms of their own (``expressions.py``): they do not evaluate all
their arguments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from neo4j.spatial import Point

from graph.cypher import semantics
from graph.cypher.arithmetic import INT_MAX, INT_MIN, number_text
from graph.cypher.evaluation import Context
from graph.cypher.functions.definition import Family, argument_error, expect_list, wrong_type
from graph.cypher.references import Work
from graph.cypher.temporal_values import epoch_nanos, temporal_text
from graph.errors import CypherTypeError

__all__ = ["FAMILY"]

FAMILY = Family()

_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
# Digits beyond which a number cannot be an integer of 64 bits; Python's int() of a long string
# takes time quadratic in its length.
_INTEGER_CHARS_MAX = 4_000


# ----------------------------------------------------------------------------- conversion


@FAMILY.add("toInteger toInt", 1)
def to_integer(value: Any) -> int | None:
    cls = type(value)
    if cls is int:
        return int(value)
    if cls is bool:
        return int(value)
    if cls is float:
        return _float_to_integer(value)
    if isinstance(value, str):
        return _string_to_integer(value)
    raise wrong_type("toInteger", "a Number, String or Boolean", value)


def _float_to_integer(value: float) -> int | None:
    if value != value or value in (math.inf, -math.inf):
        return None
    whole = int(value)
    if not INT_MIN <= whole <= INT_MAX:
        raise argument_error("toInteger", "the number does not fit a 64-bit integer.")
    return whole


def _string_to_integer(text: str) -> int | None:
    if len(text) > _INTEGER_CHARS_MAX:
        return None
    text = text.strip()
    if re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        whole = int(text)
        return whole if INT_MIN <= whole <= INT_MAX else None
    number = _string_to_float(text)
    if number is None or not INT_MIN <= number < INT_MAX:
        return None
    return int(number)


@FAMILY.add("toFloat", 1)
def to_float(value: Any) -> float | None:
    cls = type(value)
    if cls is int or cls is float:
        return float(value)
    if isinstance(value, str):
        return _string_to_float(value)
    raise wrong_type("toFloat", "a Number or String", value)


def _string_to_float(text: str) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    special = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    return special.get(text.strip())


@FAMILY.add("toBoolean", 1)
def to_boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value != 0
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    raise wrong_type("toBoolean", "a Boolean, Integer or String", value)


@FAMILY.add("toString", 1)
def to_string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return number_text(value)
    if semantics.is_temporal(value):
        return temporal_text(value)
    if isinstance(value, Point):
        axes = ", ".join(f"{axis}: {number_text(c)}" for axis, c in zip("xyz", value, strict=False))
        return f"point({{{axes}, srid: {getattr(value, 'srid', None)}}})"
    raise wrong_type("toString", "a Number, Boolean, String, temporal value or Point", value)


def _or_null(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def converted(value: Any) -> Any:
        try:
            return convert(value)
        except CypherTypeError:
            return None

    return converted


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "toInteger": to_integer,
    "toFloat": to_float,
    "toBoolean": to_boolean,
    "toString": to_string,
}


def _list_of(name: str, convert: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    tolerant = _or_null(convert)

    def converted(value: Any) -> list[Any]:
        return [None if item is None else tolerant(item) for item in expect_list(name, value)]

    return converted


for _name, _convert in _CONVERSIONS.items():
    FAMILY.add(f"{_name}OrNull", 1)(_or_null(_convert))
    FAMILY.add(f"{_name}List", 1)(_list_of(f"{_name}List", _convert))


# ----------------------------------------------------------------------------- size and types


@FAMILY.add("size", 1)
def size(value: Any) -> int:
    if isinstance(value, (str, list, bytes)) or type(value) is tuple:
        return len(value)
    raise wrong_type("size", "a List or String", value)


@FAMILY.add("isEmpty", 1)
def is_empty(value: Any) -> bool:
    if isinstance(value, (str, list, dict)) or type(value) is tuple:
        return len(value) == 0
    raise wrong_type("isEmpty", "a List, Map or String", value)


@FAMILY.add("nullIf", 2, nulls=True)
def null_if(value: Any, other: Any) -> Any:
    return None if semantics.equals(value, other) else value


_TYPE_NAMES = {
    semantics.BOOLEAN: "BOOLEAN",
    semantics.STRING: "STRING",
    semantics.DATE: "DATE",
    semantics.LOCAL_TIME: "LOCAL TIME",
    semantics.ZONED_TIME: "ZONED TIME",
    semantics.LOCAL_DATETIME: "LOCAL DATETIME",
    semantics.ZONED_DATETIME: "ZONED DATETIME",
    semantics.DURATION: "DURATION",
    semantics.POINT: "POINT",
    semantics.NODE: "NODE",
    semantics.RELATIONSHIP: "RELATIONSHIP",
    semantics.MAP: "MAP",
    semantics.PATH: "PATH",
    semantics.BYTES: "BYTES",
}


@FAMILY.add("valueType", 1, nulls=True)
def value_type(value: Any, work: Work | None = None) -> str:
    """The Cypher type of a value, as ``INTEGER NOT NULL`` or ``LIST<STRING | NULL> NOT NULL``."""
    rank = semantics.rank_of(value)
    if rank == semantics.NULL:
        return "NULL"
    if rank == semantics.NUMBER:
        return "INTEGER NOT NULL" if isinstance(value, int) else "FLOAT NOT NULL"
    if rank == semantics.LIST:
        work = work or Work()
        work.enter(len(value))
        inner = sorted({value_type(item, work) for item in value})
        work.level -= 1
        return f"LIST<{' | '.join(inner) or 'NOTHING'}> NOT NULL"
    return f"{_TYPE_NAMES[rank]} NOT NULL"


# ----------------------------------------------------------------------------- clock and chance


@FAMILY.add("timestamp", 0, needs_context=True)
def timestamp(context: Context) -> int:
    """Milliseconds from 1970-01-01T00:00Z of the statement's clock."""
    return epoch_nanos(context.now) // 1_000_000


@FAMILY.add("randomUUID", 0, needs_context=True, volatile=True)
def random_uuid(context: Context) -> str:
    """A random UUID, version 4 (RFC 9562, section 5.4): 6 of its 128 bits are fixed."""
    bits = context.random.getrandbits(128)
    bits = bits & ~(0xF << 76) | (0x4 << 76)
    bits = bits & ~(0x3 << 62) | (0x2 << 62)
    digits = f"{bits:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


@FAMILY.add("rand", 0, needs_context=True, volatile=True)
def rand(context: Context) -> float:
    return context.random.random()
