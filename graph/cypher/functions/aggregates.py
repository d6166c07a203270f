"""Aggregates: count, sum, avg, min, max, collect, stDev, percentiles, each also over DISTINCT.

::

    aggregate = make_aggregate("sum", distinct=False)       # once per plan
    state = aggregate.create(budget)                        # once per run
    aggregate.update(state, groups, group_count, arguments) # once per chunk
    vector = aggregate.finish(state, group_count)           # one value per group

``groups[i]`` is the group of row ``i``; ``group_count`` may grow between calls. Nulls are left out
(``count(*)`` has no argument). Typed columns are aggregated by NumPy; a column whose kind changes
between chunks, or that mixes types, goes value by value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from graph.cypher.evaluation import Budget
from graph.cypher.functions.aggregates_numeric import (
    AverageAggregate,
    DeviationAggregate,
    SumAggregate,
)
from graph.cypher.functions.aggregates_state import Aggregate, State, add_counts, grown, present
from graph.cypher.functions.definition import argument_error, wrong_type
from graph.cypher.grouping import Grouper
from graph.cypher.references import boxed, tighten
from graph.cypher.semantics import order_key
from graph.errors import CypherSemanticError
from graph.vector import IntArray, Kind, Vector

__all__ = ["Aggregate", "State", "make_aggregate"]

# A value held by collect or a percentile: pointer, list growth, a small object.
VALUE_BYTES = 48


class CountAggregate(Aggregate):
    """``count(*)`` with no argument, ``count(value)`` with one."""

    class CountState(State):
        __slots__ = ("counts",)

        def __init__(self, budget: Budget | None) -> None:
            super().__init__(budget)
            self.counts: IntArray = np.zeros(0, dtype=np.int64)

    def create(self, budget: Budget | None = None) -> State:
        return self.CountState(budget)

    def update(
        self, state: State, groups: IntArray, group_count: int, arguments: Sequence[Vector]
    ) -> None:
        assert isinstance(state, self.CountState)
        state.counts = grown(state.counts, group_count)
        if arguments:
            groups, _ = present(groups, arguments[0])
        add_counts(state.counts, groups)

    def finish(self, state: State, group_count: int) -> Vector:
        assert isinstance(state, self.CountState)
        return Vector(Kind.INT, grown(state.counts, group_count)[:group_count])


class ExtremeAggregate(Aggregate):
    """``min`` and ``max`` in the total order of values; NaN is the greatest number."""

    class ExtremeState(State):
        """Typed: ``best`` and ``seen`` arrays of one kind. Else: a value and key per group."""

        __slots__ = ("best", "keys", "kind", "seen", "values")

        def __init__(self, budget: Budget | None) -> None:
            super().__init__(budget)
            self.kind: Kind | None = None
            self.best: npt.NDArray[Any] = np.zeros(0)
            self.seen: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
            self.values: list[Any] = []
            self.keys: list[Any] = []

    def __init__(self, greatest: bool) -> None:
        self.greatest = greatest

    def create(self, budget: Budget | None = None) -> State:
        return self.ExtremeState(budget)

    def update(
        self, state: State, groups: IntArray, group_count: int, arguments: Sequence[Vector]
    ) -> None:
        assert isinstance(state, self.ExtremeState)
        groups, vector = present(groups, arguments[0])
        if not len(groups):
            return
        if state.kind is None:
            typed = vector.kind in (Kind.INT, Kind.FLOAT)
            state.kind = vector.kind if typed else Kind.OBJECT
        elif state.kind is not Kind.OBJECT and state.kind is not vector.kind:
            self._loosen(state)
        if state.kind is Kind.OBJECT:
            self._update_values(state, groups, group_count, boxed(vector))
        else:
            self._update_typed(state, groups, group_count, vector.data)

    def _update_typed(
        self, state: ExtremeState, groups: IntArray, group_count: int, data: npt.NDArray[Any]
    ) -> None:
        if state.kind is Kind.INT:
            limits = np.iinfo(np.int64)
            start: Any = limits.min if self.greatest else limits.max
            best: Any = np.maximum if self.greatest else np.minimum
        else:
            # maximum keeps NaN, the greatest number; fmin lets any other number win over it.
            start = -np.inf if self.greatest else np.nan
            best = np.maximum if self.greatest else np.fmin
        if len(state.best) < group_count:
            fresh = np.full(max(group_count, 2 * len(state.best)), start, dtype=data.dtype)
            fresh[: len(state.best)] = state.best
            state.best = fresh
        state.seen = grown(state.seen, group_count)
        state.seen[groups] = True
        if group_count == 1:
            state.best[0] = best(state.best[0], best.reduce(data))
        else:
            best.at(state.best, groups, data)

    def _loosen(self, state: ExtremeState) -> None:
        """From typed to value by value."""
        seen = state.seen.tolist()
        state.values = [
            value if ok else None for value, ok in zip(state.best.tolist(), seen, strict=False)
        ]
        state.keys = [None if value is None else order_key(value) for value in state.values]
        state.kind = Kind.OBJECT

    def _update_values(
        self, state: ExtremeState, groups: IntArray, group_count: int, values: list[Any]
    ) -> None:
        missing = group_count - len(state.values)
        if missing > 0:
            state.values.extend([None] * missing)
            state.keys.extend([None] * missing)
        keys, greatest = state.keys, self.greatest
        for group, value in zip(groups.tolist(), values, strict=True):
            key, best = order_key(value), keys[group]
            if best is None or (key > best if greatest else key < best):
                keys[group] = key
                state.values[group] = value

    def finish(self, state: State, group_count: int) -> Vector:
        assert isinstance(state, self.ExtremeState)
        if state.kind is None:
            return Vector.nulls(Kind.OBJECT, group_count)
        if state.kind is Kind.OBJECT:
            missing = group_count - len(state.values)
            return tighten(state.values + [None] * missing)
        seen = grown(state.seen, group_count)[:group_count]
        best = grown(state.best, group_count)[:group_count]
        return Vector(state.kind, best, None if seen.all() else seen)


class ListsState(State):
    """The values of each group, in the order they came."""

    __slots__ = ("fractions", "lists")

    def __init__(self, budget: Budget | None) -> None:
        super().__init__(budget)
        self.lists: list[list[Any]] = []
        self.fractions: dict[int, float] = {}

    def extend(self, groups: IntArray, group_count: int, values: list[Any]) -> None:
        """Append each value to its group's list; counted against the budget."""
        self.charge(VALUE_BYTES * len(values))
        self.lists.extend([] for _ in range(group_count - len(self.lists)))
        if group_count == 1:
            self.lists[0].extend(values)
            return
        lists = self.lists
        for group, value in zip(groups.tolist(), values, strict=True):
            lists[group].append(value)


class CollectAggregate(Aggregate):
    """``collect(value)``: a list of the values that are not null."""

    def create(self, budget: Budget | None = None) -> State:
        return ListsState(budget)

    def update(
        self, state: State, groups: IntArray, group_count: int, arguments: Sequence[Vector]
    ) -> None:
        assert isinstance(state, ListsState)
        groups, vector = present(groups, arguments[0])
        state.extend(groups, group_count, boxed(vector))

    def finish(self, state: State, group_count: int) -> Vector:
        assert isinstance(state, ListsState)
        lists = state.lists
        return Vector.objects(
            [lists[group] if group < len(lists) else [] for group in range(group_count)]
        )


class PercentileAggregate(Aggregate):
    """``percentileCont`` (interpolated) and ``percentileDisc`` (a value that occurs)."""

    def __init__(self, continuous: bool) -> None:
        self.continuous = continuous
        self.name = "percentileCont" if continuous else "percentileDisc"

    def create(self, budget: Budget | None = None) -> State:
        return ListsState(budget)

    def update(
        self, state: State, groups: IntArray, group_count: int, arguments: Sequence[Vector]
    ) -> None:
        assert isinstance(state, ListsState)
        fractions = boxed(arguments[1])
        for group, fraction in zip(groups.tolist(), fractions, strict=True):
            if group not in state.fractions:
                state.fractions[group] = self._checked(fraction)
        groups, vector = present(groups, arguments[0])
        values = boxed(vector)
        if vector.kind not in (Kind.INT, Kind.FLOAT):
            for value in values:
                if type(value) not in (int, float):
                    raise wrong_type(self.name, "Numbers", value)
        state.extend(groups, group_count, values)

    def _checked(self, fraction: Any) -> float:
        if type(fraction) not in (int, float):
            raise wrong_type(self.name, "a Number between 0.0 and 1.0", fraction)
        if not 0 <= fraction <= 1:
            raise argument_error(
                self.name, f"the percentile must be between 0.0 and 1.0 but was {fraction}."
            )
        return float(fraction)

    def finish(self, state: State, group_count: int) -> Vector:
        assert isinstance(state, ListsState)
        results: list[Any] = []
        for group in range(group_count):
            values = state.lists[group] if group < len(state.lists) else []
            if values:
                pick = self._interpolated if self.continuous else self._occurring
                results.append(pick(sorted(values, key=order_key), state.fractions[group]))
            else:
                results.append(None)
        return tighten(results)

    def _interpolated(self, values: list[float], fraction: float) -> float:
        position = fraction * (len(values) - 1)
        lower = int(position)
        part = position - lower
        if part == 0:
            return float(values[lower])
        return values[lower] * (1 - part) + values[lower + 1] * part

    def _occurring(self, values: list[float], fraction: float) -> float:
        position = fraction * len(values)
        whole = int(position)
        return values[whole if position != whole or whole == 0 else whole - 1]


class DistinctAggregate(Aggregate):
    """Another aggregate over the first of each group's equivalent values."""

    class DistinctState(State):
        __slots__ = ("grouper", "inner")

        def __init__(self, budget: Budget | None, inner: State) -> None:
            super().__init__(budget)
            self.inner = inner
            self.grouper = Grouper(2, budget)

    def __init__(self, inner: Aggregate) -> None:
        self.inner = inner

    def create(self, budget: Budget | None = None) -> State:
        return self.DistinctState(budget, self.inner.create(budget))

    def update(
        self, state: State, groups: IntArray, group_count: int, arguments: Sequence[Vector]
    ) -> None:
        assert isinstance(state, self.DistinctState)
        keys = [Vector(Kind.INT, groups), arguments[0]]
        rows = state.grouper.new_rows(keys, len(groups))
        self.inner.update(
            state.inner, groups[rows], group_count, [vector.take(rows) for vector in arguments]
        )

    def finish(self, state: State, group_count: int) -> Vector:
        assert isinstance(state, self.DistinctState)
        return self.inner.finish(state.inner, group_count)


_ARGUMENT_COUNTS = {"percentilecont": 2, "percentiledisc": 2}


def argument_count(name: str) -> int:
    """How many arguments an aggregate takes; ``count(*)`` takes none."""
    return 0 if name == "count(*)" else _ARGUMENT_COUNTS.get(name.lower(), 1)


def make_aggregate(name: str, distinct: bool = False) -> Aggregate:
    """The aggregate of this name, in any case; ``count(*)`` counts rows.

    Raises:
        CypherSemanticError: there is no such aggregate.
    """
    lower = name.lower()
    aggregate: Aggregate
    if lower in ("count", "count(*)"):
        aggregate = CountAggregate()
    elif lower == "sum":
        aggregate = SumAggregate()
    elif lower == "avg":
        aggregate = AverageAggregate()
    elif lower in ("min", "max"):
        aggregate = ExtremeAggregate(greatest=lower == "max")
    elif lower == "collect":
        aggregate = CollectAggregate()
    elif lower in ("stdev", "stdevp"):
        aggregate = DeviationAggregate(population=lower == "stdevp")
    elif lower in ("percentilecont", "percentiledisc"):
        aggregate = PercentileAggregate(continuous=lower == "percentilecont")
    else:
        raise CypherSemanticError(f"Unknown aggregate `{name}`", detail="UnknownFunction")
    # The least and greatest of distinct values are those of all values.
    if distinct and lower not in ("min", "max", "count(*)"):
        return DistinctAggregate(aggregate)
    return aggregate
