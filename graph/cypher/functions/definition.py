"""What a built-in function is, and how a family of them is written down.

A family is a module with ``FAMILY = Family()`` and functions added by decorator. An
implementation takes Cypher values (references for nodes and relationships) and gives one; it is
called once per row. ``vector`` may hold a second implementation for whole vectors, which gives
``None`` where it does not apply. Unless ``nulls`` says otherwise a null argument makes the result
null without a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from graph.cypher import semantics
from graph.cypher.evaluation import Context
from graph.errors import CypherArgumentError, CypherTypeError
from graph.vector import Vector

__all__ = [
    "Family",
    "Function",
    "VectorImplementation",
    "expect_int",
    "expect_list",
    "expect_number",
    "expect_string",
    "wrong_type",
]

Implementation = Callable[..., Any]
# (context, arguments, length) -> result or None where the fast path does not apply. An argument may
# be a constant of length 1.
VectorImplementation = Callable[[Context, Sequence[Vector], int], Vector | None]

ImplementationT = TypeVar("ImplementationT", bound=Implementation)


@dataclass(frozen=True, slots=True)
class Function:
    """A built-in function. ``max_args`` ``None``: any number."""

    name: str
    min_args: int
    max_args: int | None
    implementation: Implementation
    # The implementation sees nulls itself.
    nulls: bool = False
    # The first argument of the implementation is the Context.
    needs_context: bool = False
    # Two calls may give different results, so it is never folded into a constant.
    volatile: bool = False
    vector: VectorImplementation | None = None


class Family:
    """The functions of one module, by name in lower case."""

    def __init__(self) -> None:
        self.functions: dict[str, Function] = {}

    def add(
        self,
        names: str,
        min_args: int,
        max_args: int | None = -1,
        *,
        nulls: bool = False,
        needs_context: bool = False,
        volatile: bool = False,
        vector: VectorImplementation | None = None,
    ) -> Callable[[ImplementationT], ImplementationT]:
        """Decorator: ``names`` separated by blanks; ``max_args`` is ``min_args`` if not given."""
        upper = min_args if max_args == -1 else max_args

        def note(implementation: ImplementationT) -> ImplementationT:
            for name in names.split():
                key = name.lower()
                assert key not in self.functions, f"{name} is defined twice"
                self.functions[key] = Function(
                    name, min_args, upper, implementation, nulls, needs_context, volatile, vector
                )
            return implementation

        return note


def wrong_type(function: str, expected: str, value: Any) -> CypherTypeError:
    """The error for an argument of the wrong type."""
    return CypherTypeError(
        f"Invalid input for function `{function}()`: expected {expected} but was "
        f"{semantics.type_name(value)}."
    )


def expect_int(function: str, value: Any) -> int:
    """An Integer argument."""
    if type(value) is not int:
        raise wrong_type(function, "an Integer", value)
    return value


def expect_number(function: str, value: Any) -> float:
    """An Integer or Float argument."""
    if type(value) is not int and type(value) is not float:
        raise wrong_type(function, "a Number", value)
    return float(value) if type(value) is float else value


def expect_string(function: str, value: Any) -> str:
    """A String argument."""
    if not isinstance(value, str):
        raise wrong_type(function, "a String", value)
    return value


def expect_list(function: str, value: Any) -> Sequence[Any]:
    """A List argument."""
    if not isinstance(value, list) and type(value) is not tuple:
        raise wrong_type(function, "a List", value)
    found: Sequence[Any] = value
    return found


def argument_error(function: str, what: str) -> CypherArgumentError:
    """The error for an argument of the right type that the function cannot take."""
    return CypherArgumentError(f"Invalid input for function `{function}()`: {what}")
