"""sum, avg, stDev, stDevP.

Sums of integers are exact: 64-bit accumulators while an upper bound of all partial sums says that
they cannot overflow, Python integers from then on; the result must fit 64 bits. Floats add in row
order. Durations sum part by part. The deviation combines per-chunk means and squares (Chan,
Golub, LeVeque 1979), which stays accurate where the sum of squares would not.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from neo4j.time import Duration

from graph.cypher import temporal_arithmetic
from graph.cypher.arithmetic import check_int
from graph.cypher.evaluation import Budget
from graph.cypher.functions.aggregates_state import Aggregate, State, add_counts, grown, present
from graph.cypher.functions.definition import wrong_type
from graph.cypher.references import boxed, tighten
from graph.errors import CypherTypeError
from graph.vector import IntArray, Kind, Vector

__all__ = ["AverageAggregate", "DeviationAggregate", "SumAggregate"]

FloatArray = npt.NDArray[np.float64]
# Partial sums below this bound, as estimated by floats, cannot overflow 64 bits.
SAFE_SUM = 2.0**62


class SumState(State):
    """Sums of each group, integers and floats apart, since a float anywhere makes the sum one."""

    __slots__ = ("bound", "counts", "durations", "exact", "float_counts", "floats", "integers")

    def __init__(self, budget: Budget | None) -> None:
        super().__init__(budget)
        self.counts: IntArray = np.zeros(0, dtype=np.int64)
        self.float_counts: IntArray = np.zeros(0, dtype=np.int64)
        self.integers: IntArray = np.zeros(0, dtype=np.int64)
        self.floats: FloatArray = np.zeros(0, dtype=np.float64)
        # Python integers, by group, once ``bound`` no longer rules out an overflow.
        self.exact: dict[int, int] = {}
        self.bound = 0.0
        self.durations: dict[int, Duration] = {}

    def add(self, groups: IntArray, group_count: int, vector: Vector, name: str) -> None:
        """Take in values that are not null."""
        self.counts = grown(self.counts, group_count)
        add_counts(self.counts, groups)
        if vector.kind is Kind.INT:
            self._add_integers(groups, group_count, vector.data)
        elif vector.kind is Kind.FLOAT:
            self._add_floats(groups, group_count, vector.data)
        else:
            self._add_mixed(groups, group_count, boxed(vector), name)

    def _add_integers(self, groups: IntArray, group_count: int, data: IntArray) -> None:
        self.integers = grown(self.integers, group_count)
        self.bound += float(np.abs(data.astype(np.float64)).sum())
        if self.bound < SAFE_SUM:
            if group_count == 1:
                self.integers[0] += data.sum()
            else:
                np.add.at(self.integers, groups, data)
            return
        exact = self.exact
        for group, value in zip(groups.tolist(), data.tolist(), strict=True):
            exact[group] = exact.get(group, 0) + value

    def _add_floats(self, groups: IntArray, group_count: int, data: FloatArray) -> None:
        self.floats = grown(self.floats, group_count)
        self.float_counts = grown(self.float_counts, group_count)
        with np.errstate(all="ignore"):
            np.add.at(self.floats, groups, data)
        add_counts(self.float_counts, groups)

    def _add_mixed(self, groups: IntArray, group_count: int, values: list[Any], name: str) -> None:
        integer_rows: list[int] = []
        float_rows: list[int] = []
        for row, value in enumerate(values):
            cls = type(value)
            if cls is int:
                integer_rows.append(row)
            elif cls is float:
                float_rows.append(row)
            elif isinstance(value, Duration):
                group = int(groups[row])
                total = self.durations.get(group)
                self.durations[group] = (
                    value if total is None else temporal_arithmetic.plus(total, value)
                )
            else:
                raise wrong_type(name, "Numbers or Durations", value)
        if integer_rows:
            integers = np.array([values[row] for row in integer_rows], dtype=np.int64)
            self._add_integers(groups[integer_rows], group_count, integers)
        if float_rows:
            floats = np.array([values[row] for row in float_rows], dtype=np.float64)
            self._add_floats(groups[float_rows], group_count, floats)

    def total(self, group: int, name: str) -> Any:
        """The sum of one group; 0 if it has no values."""
        count = int(self.counts[group]) if group < len(self.counts) else 0
        duration = self.durations.get(group)
        integer = int(self.integers[group]) if group < len(self.integers) else 0
        integer += self.exact.get(group, 0)
        floating = group < len(self.float_counts) and self.float_counts[group] > 0
        if duration is not None:
            if integer or floating or not count:
                raise CypherTypeError(f"{name}() cannot mix Numbers and Durations.")
            return duration
        return integer + float(self.floats[group]) if floating else integer


class SumAggregate(Aggregate):
    """``sum(value)``: 0 for no values; an Integer unless a Float takes part."""

    def create(self, budget: Budget | None = None) -> State:
        return SumState(budget)

    def update(
        self, state: State, groups: IntArray, group_count: int, arguments: Sequence[Vector]
    ) -> None:
        assert isinstance(state, SumState)
        groups, vector = present(groups, arguments[0])
        if len(groups):
            state.add(groups, group_count, vector, "sum")

    def finish(self, state: State, group_count: int) -> Vector:
        assert isinstance(state, SumState)
        if not state.durations and not state.exact:
            floats = grown(state.float_counts, group_count)[:group_count] > 0
            if not floats.any():
                return Vector(Kind.INT, grown(state.integers, group_count)[:group_count])
            if floats.all() and not len(state.integers):
                return Vector(Kind.FLOAT, state.floats[:group_count])
        totals = [state.total(group, "sum") for group in range(group_count)]
        return tighten([check_int(t) if type(t) is int else t for t in totals])


class AverageAggregate(SumAggregate):
    """``avg(value)``: null for no values, otherwise a Float (or a Duration)."""

    def finish(self, state: State, group_count: int) -> Vector:
        assert isinstance(state, SumState)
        counts = grown(state.counts, group_count)[:group_count].tolist()
        results: list[Any] = []
        for group, count in enumerate(counts):
            if not count:
                results.append(None)
                continue
            total = state.total(group, "avg")
            if isinstance(total, Duration):
                results.append(temporal_arithmetic.times(total, Fraction(1, count)))
            else:
                results.append(total / count)
        return tighten(results)


class DeviationState(State):
    """Count, mean, and sum of squared distances from the mean, for each group."""

    __slots__ = ("counts", "means", "squares")

    def __init__(self, budget: Budget | None) -> None:
        super().__init__(budget)
        self.counts: IntArray = np.zeros(0, dtype=np.int64)
        self.means: FloatArray = np.zeros(0, dtype=np.float64)
        self.squares: FloatArray = np.zeros(0, dtype=np.float64)


class DeviationAggregate(Aggregate):
    """``stDev`` (of a sample) and ``stDevP`` (of the population); 0.0 for fewer than two values."""

    def __init__(self, population: bool) -> None:
        self.population = population

    def create(self, budget: Budget | None = None) -> State:
        return DeviationState(budget)

    def update(
        self, state: State, groups: IntArray, group_count: int, arguments: Sequence[Vector]
    ) -> None:
        assert isinstance(state, DeviationState)
        groups, vector = present(groups, arguments[0])
        state.counts = grown(state.counts, group_count)
        state.means = grown(state.means, group_count)
        state.squares = grown(state.squares, group_count)
        if not len(groups):
            return
        data = self._floats(vector)
        which, inverse = np.unique(groups, return_inverse=True)
        counts = np.bincount(inverse)
        with np.errstate(all="ignore"):
            means = np.bincount(inverse, weights=data) / counts
            squares = np.bincount(inverse, weights=(data - means[inverse]) ** 2)
            old = state.counts[which]
            total = old + counts
            delta = means - state.means[which]
            state.means[which] += delta * counts / total
            state.squares[which] += squares + delta**2 * old * counts / total
            state.counts[which] = total

    def _floats(self, vector: Vector) -> FloatArray:
        if vector.kind not in (Kind.INT, Kind.FLOAT):
            for value in boxed(vector):
                if type(value) not in (int, float):
                    raise wrong_type("stDevP" if self.population else "stDev", "Numbers", value)
        return vector.data.astype(np.float64)

    def finish(self, state: State, group_count: int) -> Vector:
        assert isinstance(state, DeviationState)
        counts = grown(state.counts, group_count)[:group_count]
        squares = grown(state.squares, group_count)[:group_count]
        divisor = np.maximum(counts - (0 if self.population else 1), 1)
        return Vector(Kind.FLOAT, np.sqrt(squares / divisor))
