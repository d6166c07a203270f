"""All built-in functions by name."""

from __future__ import annotations

from functools import cache

from graph.cypher.functions import entities, lists, numeric, scalar, spatial, strings, temporal
from graph.cypher.functions.definition import Function
from graph.cypher.trees import AGGREGATES

__all__ = ["FORMS", "find_function", "known_names"]

# Functions that are forms of their own: they do not evaluate all their arguments.
FORMS = frozenset({"coalesce", "exists"})


@cache
def _functions() -> dict[str, Function]:
    found: dict[str, Function] = {}
    for module in (entities, lists, numeric, scalar, spatial, strings, temporal):
        for name, function in module.FAMILY.functions.items():
            assert name not in found, f"{name} is defined by two families"
            found[name] = function
    return found


def find_function(name: str) -> Function | None:
    """The scalar function with this name (in lower case)."""
    return _functions().get(name)


@cache
def known_names() -> frozenset[str]:
    """Names, in lower case, of everything that may be called: aggregates and forms included."""
    return frozenset(_functions()) | AGGREGATES | FORMS
