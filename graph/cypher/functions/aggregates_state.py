"""What all aggregates share: the interface, and arrays that grow with the number of groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from graph.cypher.evaluation import Budget
from graph.vector import IntArray, Kind, Vector

__all__ = ["Aggregate", "State", "add_counts", "grown", "present"]


class State:
    """What one aggregate keeps during one run."""

    __slots__ = ("budget",)

    def __init__(self, budget: Budget | None) -> None:
        self.budget = budget

    def charge(self, size_bytes: int) -> None:
        """Count memory; raises LimitError when the budget is used up."""
        if self.budget is not None:
            self.budget.charge(size_bytes)


class Aggregate:
    """An aggregate function. Immutable; see ``aggregates.py`` for the order of calls."""

    def create(self, budget: Budget | None = None) -> State:
        """A state for one run."""
        raise NotImplementedError

    def update(
        self, state: State, groups: IntArray, group_count: int, arguments: Sequence[Vector]
    ) -> None:
        """Take in one chunk.

        Raises:
            CypherTypeError, CypherArgumentError: a value the aggregate cannot take.
            LimitError: the budget is used up.
        """
        raise NotImplementedError

    def finish(self, state: State, group_count: int) -> Vector:
        """One value for each group."""
        raise NotImplementedError


def grown(array: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """``array`` with at least ``count`` elements, new ones zero; at least doubled if enlarged."""
    if len(array) >= count:
        return array
    larger = np.zeros(max(count, 2 * len(array)), dtype=array.dtype)
    larger[: len(array)] = array
    return larger


def add_counts(counts: IntArray, groups: IntArray) -> None:
    """Add 1 to the count of the group of each row."""
    if len(counts) <= 4_096:
        counts += np.bincount(groups, minlength=len(counts))
    else:
        np.add.at(counts, groups, 1)


def present(groups: IntArray, vector: Vector) -> tuple[IntArray, Vector]:
    """The rows whose value is not null."""
    if vector.kind < Kind.STRING:
        if vector.valid is None or vector.valid.all():
            return groups, Vector(vector.kind, vector.data)
        return groups[vector.valid], Vector(vector.kind, vector.data[vector.valid])
    missing = vector.null_mask()
    if not missing.any():
        return groups, vector
    return groups[~missing], vector.take(~missing)
