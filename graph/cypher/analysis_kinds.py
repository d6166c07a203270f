"""Kinds: what is known of a value before the query runs.

A kind is a string: ``any``, ``null``, ``boolean``, ``integer``, ``float``, ``string``, ``map``,
``node``, ``relationship``, ``path``, ``temporal`` or ``list of <kind>``. ``any`` says nothing;
every kind may also be null at run time. Analysis refuses only what can never be right, so
where two kinds meet and differ the answer is ``any``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = [
    "ANY",
    "FUNCTIONS",
    "NULL",
    "Signature",
    "common",
    "element",
    "is_one_of",
    "list_of",
    "shown",
]

ANY: Final = "any"
NULL: Final = "null"

_LIST: Final = "list of "
_UNKNOWN: Final = frozenset({ANY, NULL})

# Kinds that have properties, and kinds that arithmetic other than + can never take.
WITH_PROPERTIES: Final = frozenset({"node", "relationship", "map", "temporal"})
NOT_ARITHMETIC: Final = frozenset(
    {"boolean", "string", "list", "map", "node", "relationship", "path"}
)


def list_of(kind: str) -> str:
    return _LIST + kind


def is_list(kind: str) -> bool:
    return kind.startswith(_LIST)


def element(kind: str) -> str:
    """The kind of the elements of a list of this kind; ``any`` of what is no known list."""
    return kind[len(_LIST) :] if kind.startswith(_LIST) else ANY


def family(kind: str) -> str:
    """The kind without what a list holds."""
    return "list" if kind.startswith(_LIST) else kind


def is_one_of(kind: str, allowed: frozenset[str]) -> bool:
    """Whether a value of this kind may belong to one of the families ``allowed``."""
    return kind in _UNKNOWN or family(kind) in allowed


def common(first: str, second: str) -> str:
    """What is known of a value that has one of two kinds.

    >>> common("integer", "null"), common("integer", "string")
    ('integer', 'any')
    """
    if first == second or second == NULL:
        return first
    if first == NULL:
        return second
    if is_list(first) and is_list(second):
        return list_of(common(element(first), element(second)))
    return ANY


def shown(kind: str) -> str:
    """The kind in the spelling of error messages.

    >>> shown("list of node")
    'List<Node>'
    """
    return f"List<{shown(element(kind))}>" if is_list(kind) else kind.capitalize()


@dataclass(frozen=True, slots=True)
class Signature:
    """What is checked of a call: the families its first argument may have, and its result.

    ``result`` may be ``first`` (the kind of the first argument), ``element`` (of its elements)
    or ``list of first``. ``exact`` is the number of arguments where there is only one.
    """

    result: str = ANY
    first: frozenset[str] | None = None
    exact: int | None = None

    def result_of(self, kinds: list[str]) -> str:
        """The kind of the result for arguments of these kinds."""
        given = kinds[0] if kinds else ANY
        if self.result == "first":
            return given
        if self.result == "element":
            return element(given)
        if self.result == "list of first":
            return list_of(ANY if given == NULL else given)
        return self.result


def _signatures() -> dict[str, Signature]:
    entity = frozenset({"node", "relationship"})
    node, relationship = frozenset({"node"}), frozenset({"relationship"})
    path, lists = frozenset({"path"}), frozenset({"list"})
    found = {
        "collect": Signature("list of first", exact=1),
        "count": Signature("integer", exact=1),
        "elementid": Signature("string", entity, 1),
        "endnode": Signature("node", relationship, 1),
        "head": Signature("element", lists, 1),
        "id": Signature("integer", entity, 1),
        "keys": Signature("list of string", entity | {"map"}, 1),
        "labels": Signature("list of string", node, 1),
        "last": Signature("element", lists, 1),
        "length": Signature("integer", path, 1),
        "max": Signature("first", exact=1),
        "min": Signature("first", exact=1),
        "nodes": Signature("list of node", path, 1),
        "percentilecont": Signature("float", exact=2),
        "percentiledisc": Signature(ANY, exact=2),
        "properties": Signature("map", entity | {"map"}, 1),
        "range": Signature("list of integer"),
        "relationships": Signature("list of relationship", path, 1),
        "reverse": Signature("first", frozenset({"list", "string"}), 1),
        "size": Signature("integer", frozenset({"list", "string"}), 1),
        "split": Signature("list of string"),
        "startnode": Signature("node", relationship, 1),
        "stdev": Signature("float", exact=1),
        "stdevp": Signature("float", exact=1),
        "sum": Signature(ANY, exact=1),
        "avg": Signature(ANY, exact=1),
        "tail": Signature("first", lists, 1),
        "toboolean": Signature("boolean", exact=1),
        "tofloat": Signature("float", exact=1),
        "tointeger": Signature("integer", exact=1),
        "tostring": Signature("string", exact=1),
        "type": Signature("string", relationship, 1),
    }
    for name in ("ltrim", "rtrim", "trim", "tolower", "toupper", "replace", "substring"):
        found[name] = Signature("string")
    for name in ("ceil", "e", "exp", "floor", "log", "log10", "pi", "rand", "round", "sqrt"):
        found[name] = Signature("float")
    for name in ("date", "datetime", "duration", "localdatetime", "localtime", "time"):
        found[name] = Signature("temporal")
    return found


# Functions of which something is known before they run; the others give ``any``.
FUNCTIONS: Final = _signatures()
