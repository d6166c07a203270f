"""List functions. (``reverse`` serves strings too and stands there; conversions of whole lists
stand beside the conversions.)"""

from __future__ import annotations

from typing import Any

from graph.cypher.arithmetic import LIST_ELEMENTS_MAX
from graph.cypher.evaluation import Context
from graph.cypher.functions.definition import Family, argument_error, expect_list
from graph.cypher.semantics import type_name
from graph.errors import LimitError

__all__ = ["FAMILY"]

FAMILY = Family()

_BYTES_PER_ELEMENT = 40  # a pointer and an int object


@FAMILY.add("head", 1)
def head(value: Any) -> Any:
    items = expect_list("head", value)
    return items[0] if items else None


@FAMILY.add("last", 1)
def last(value: Any) -> Any:
    items = expect_list("last", value)
    return items[-1] if items else None


@FAMILY.add("tail", 1)
def tail(value: Any) -> list[Any]:
    return list(expect_list("tail", value)[1:])


@FAMILY.add("range", 2, 3, needs_context=True)
def integer_range(context: Context, start: Any, end: Any, step: Any = 1) -> list[int]:
    """Both ends included. A step of 0 and arguments that are no Integers are argument errors
    (openCypher TCK, List11)."""
    for value in (start, end, step):
        if type(value) is not int:
            raise argument_error("range", f"expected an Integer but was {type_name(value)}.")
    if step == 0:
        raise argument_error("range", "the step must not be 0.")
    numbers = range(start, end + (1 if step > 0 else -1), step)
    count = max(0, (end - start) // step + 1)
    if count > LIST_ELEMENTS_MAX:
        raise LimitError(f"A list may hold at most {LIST_ELEMENTS_MAX} elements.")
    if count > 1_000:
        context.budget.charge(count * _BYTES_PER_ELEMENT)
    return list(numbers)
