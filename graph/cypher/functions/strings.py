"""String functions. Positions count from 0, in Unicode characters."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from graph.cypher.arithmetic import STRING_CHARS_MAX
from graph.cypher.evaluation import Context
from graph.cypher.functions.definition import (
    Family,
    VectorImplementation,
    argument_error,
    expect_int,
    expect_list,
    expect_string,
    wrong_type,
)
from graph.cypher.references import tighten
from graph.errors import LimitError
from graph.vector import Kind, Vector

__all__ = ["FAMILY"]

FAMILY = Family()


def _each(convert: Callable[[str], Any]) -> VectorImplementation:
    """A function of one string over a STRING vector, without a call of ours for each row."""

    def vector(context: Context, arguments: Sequence[Vector], length: int) -> Vector | None:
        column = arguments[0]
        if column.kind is not Kind.STRING or len(column) != length or len(arguments) != 1:
            return None
        return tighten([None if v is None else convert(v) for v in column.data.tolist()])

    return vector


@FAMILY.add("toLower lower", 1, vector=_each(str.lower))
def to_lower(value: Any) -> str:
    return expect_string("toLower", value).lower()


@FAMILY.add("toUpper upper", 1, vector=_each(str.upper))
def to_upper(value: Any) -> str:
    return expect_string("toUpper", value).upper()


def _characters(name: str, characters: Any) -> str | None:
    return None if characters is None else expect_string(name, characters)


@FAMILY.add("trim", 1, vector=_each(str.strip))
def trim(value: Any) -> str:
    return expect_string("trim", value).strip()


@FAMILY.add("btrim", 1, 2)
def btrim(value: Any, characters: Any = None) -> str:
    return expect_string("btrim", value).strip(_characters("btrim", characters))


@FAMILY.add("ltrim", 1, 2)
def ltrim(value: Any, characters: Any = None) -> str:
    return expect_string("ltrim", value).lstrip(_characters("ltrim", characters))


@FAMILY.add("rtrim", 1, 2)
def rtrim(value: Any, characters: Any = None) -> str:
    return expect_string("rtrim", value).rstrip(_characters("rtrim", characters))


@FAMILY.add("replace", 3)
def replace(value: Any, search: Any, replacement: Any) -> str:
    text = expect_string("replace", value)
    old, new = expect_string("replace", search), expect_string("replace", replacement)
    found = text.count(old)
    if len(text) + found * (len(new) - len(old)) > STRING_CHARS_MAX:
        raise LimitError(f"A string may hold at most {STRING_CHARS_MAX} characters.")
    return text.replace(old, new)


@FAMILY.add("reverse", 1)
def reverse(value: Any) -> Any:
    if isinstance(value, str):
        return value[::-1]
    if isinstance(value, list) or type(value) is tuple:
        return list(value[::-1])
    raise wrong_type("reverse", "a String or List", value)


@FAMILY.add("split", 2)
def split(value: Any, delimiter: Any) -> list[str] | None:
    """Parts between delimiters; an empty delimiter gives the characters. Several delimiters may
    be given as a list."""
    text = expect_string("split", value)
    if isinstance(delimiter, str):
        return text.split(delimiter) if delimiter else list(text) or [""]
    parts = [text]
    for each in expect_list("split", delimiter):
        if each is None:
            return None
        mark = expect_string("split", each)
        parts = [piece for part in parts for piece in (part.split(mark) if mark else list(part))]
    return parts


def _not_negative(name: str, what: str, value: Any) -> int:
    number = expect_int(name, value)
    if number < 0:
        raise argument_error(name, f"the {what} must not be negative but was {number}.")
    return number


@FAMILY.add("substring", 2, 3)
def substring(value: Any, start: Any, length: Any = 2**63) -> str:
    text = expect_string("substring", value)
    first = _not_negative("substring", "start", start)
    return text[first : first + _not_negative("substring", "length", length)]


@FAMILY.add("left", 2)
def left(value: Any, length: Any) -> str:
    return expect_string("left", value)[: _not_negative("left", "length", length)]


@FAMILY.add("right", 2)
def right(value: Any, length: Any) -> str:
    text = expect_string("right", value)
    return text[max(0, len(text) - _not_negative("right", "length", length)) :]


@FAMILY.add("char_length character_length", 1, vector=_each(len))
def char_length(value: Any) -> int:
    return len(expect_string("char_length", value))


_FORMS = ("NFC", "NFD", "NFKC", "NFKD")


@FAMILY.add("normalize", 1, 2)
def normalize(value: Any, form: Any = "NFC") -> str:
    name = expect_string("normalize", form).upper()
    text = expect_string("normalize", value)
    for known in _FORMS:
        if name == known:
            return unicodedata.normalize(known, text)  # type: ignore[arg-type]
    raise argument_error("normalize", f"unknown form; known are {', '.join(_FORMS)}.")
