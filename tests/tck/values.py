"""The TCK's notation of values, and the canonical form in which results are compared.

Expected values are written as in the TCK's README ("Format of the expected results"). Both they
and what the engine gives become nested tuples that tell 1, 1.0 and true apart and that do not
depend on the order of map keys and labels.
"""

from __future__ import annotations

import math
import re
from typing import Any

from neo4j.time import Duration

from graph.cypher.temporal_values import temporal_text as text_of
from graph.values import Node, Path, Relationship

__all__ = ["canonical", "parse_value", "plain"]

Canonical = tuple[Any, ...]


def canonical(value: Any) -> Canonical:
    """The canonical form of a value that the engine gave."""
    if value is None:
        return ("null",)
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, int):
        return ("integer", value)
    if isinstance(value, float):
        return ("float", "NaN" if math.isnan(value) else value)
    if isinstance(value, str):
        return ("string", value)
    if isinstance(value, Duration):  # which is a tuple, too
        return ("string", text_of(value))
    if isinstance(value, (list, tuple)):
        return ("list", tuple(canonical(item) for item in value))
    if isinstance(value, dict):
        return ("map", _properties(value))
    if isinstance(value, Node):
        return ("node", frozenset(value.labels), _properties(value.properties))
    if isinstance(value, Relationship):
        return ("relationship", value.type, _properties(value.properties))
    if isinstance(value, Path):
        return _path(value)
    return ("string", text_of(value))


def _properties(values: dict[str, Any]) -> frozenset[tuple[str, Canonical]]:
    return frozenset((key, canonical(value)) for key, value in values.items())


def _path(path: Path) -> Canonical:
    parts: list[Any] = [canonical(path.nodes[0])]
    for position, relationship in enumerate(path.relationships):
        forward = relationship.start == path.nodes[position].id
        parts.append((canonical(relationship), forward))
        parts.append(canonical(path.nodes[position + 1]))
    return ("path", tuple(parts))


class _Reader:
    """Reads one value of the TCK's notation; ``graph``: canonical form, else Python values."""

    _NUMBER = re.compile(r"-?(?:\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\d+|\.\d+)")
    _WORD = re.compile(r"[^\s:{}\[\](),|<>\-']+")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def value(self) -> Canonical:
        self.space()
        rest = self.text[self.at :]
        if rest.startswith("'"):
            return ("string", self.string())
        if rest.startswith("[") and re.match(r"\[:", rest):
            return self.relationship()
        if rest.startswith("["):
            return self.list()
        if rest.startswith("{"):
            return ("map", self.map())
        if rest.startswith("<"):
            return self.path()
        if rest.startswith("("):
            return self.node()
        for word, value in _WORDS.items():
            if rest.startswith(word):
                self.at += len(word)
                return value
        number = self._NUMBER.match(rest)
        if number is None:
            raise ValueError(f"cannot read the value at {self.at}: {self.text!r}")
        self.at += number.end()
        text = number.group()
        if re.fullmatch(r"-?\d+", text):
            return ("integer", int(text))
        return ("float", float(text))

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def take(self, expected: str) -> bool:
        self.space()
        if self.text.startswith(expected, self.at):
            self.at += len(expected)
            return True
        return False

    def need(self, expected: str) -> None:
        if not self.take(expected):
            raise ValueError(f"expected {expected!r} at {self.at}: {self.text!r}")

    def string(self) -> str:
        self.need("'")
        found: list[str] = []
        while self.text[self.at] != "'":
            if self.text[self.at] == "\\" and self.text[self.at + 1] in "'\\":
                self.at += 1
            found.append(self.text[self.at])
            self.at += 1
        self.at += 1
        return "".join(found)

    def word(self) -> str:
        self.space()
        match = self._WORD.match(self.text, self.at)
        if match is None:
            raise ValueError(f"expected a name at {self.at}: {self.text!r}")
        self.at = match.end()
        return match.group()

    def list(self) -> Canonical:
        self.need("[")
        items: list[Canonical] = []
        while not self.take("]"):
            items.append(self.value())
            self.take(",")
        return ("list", tuple(items))

    def map(self) -> frozenset[tuple[str, Canonical]]:
        self.need("{")
        items: list[tuple[str, Canonical]] = []
        while not self.take("}"):
            key = self.word()
            self.need(":")
            items.append((key, self.value()))
            self.take(",")
        return frozenset(items)

    def node(self) -> Canonical:
        self.need("(")
        labels: list[str] = []
        properties: frozenset[tuple[str, Canonical]] = frozenset()
        while self.take(":"):
            labels.append(self.word())
        self.space()
        if self.text[self.at] == "{":
            properties = self.map()
        self.need(")")
        return ("node", frozenset(labels), properties)

    def relationship(self) -> Canonical:
        self.need("[")
        self.need(":")
        name = self.word()
        properties: frozenset[tuple[str, Canonical]] = frozenset()
        self.space()
        if self.text[self.at] == "{":
            properties = self.map()
        self.need("]")
        return ("relationship", name, properties)

    def path(self) -> Canonical:
        self.need("<")
        parts: list[Any] = [self.node()]
        while not self.take(">"):
            forward = not self.take("<-")
            if forward:
                self.need("-")
            relationship = self.relationship()
            self.need("->" if forward else "-")
            parts.append((relationship, forward))
            parts.append(self.node())
        return ("path", tuple(parts))


_WORDS: dict[str, Canonical] = {
    "null": ("null",),
    "true": ("boolean", True),
    "false": ("boolean", False),
    "NaN": ("float", "NaN"),
    "Inf": ("float", math.inf),
    "-Inf": ("float", -math.inf),
}


def parse_value(text: str) -> Canonical:
    """The canonical form of a value in the TCK's notation."""
    reader = _Reader(text)
    value = reader.value()
    reader.space()
    if reader.at != len(text):
        raise ValueError(f"unexpected text after the value: {text!r}")
    return value


def plain(value: Canonical) -> Any:
    """A canonical value without graph elements as a Python value: for parameters."""
    kind = value[0]
    if kind == "null":
        return None
    if kind == "list":
        return [plain(item) for item in value[1]]
    if kind == "map":
        return {key: plain(item) for key, item in value[1]}
    if value == ("float", "NaN"):
        return math.nan
    return value[1]
