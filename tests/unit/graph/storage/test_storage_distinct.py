"""Distinct ids: the same as NumPy's, in the same order."""

from __future__ import annotations

import numpy as np
import pytest

from graph.distinct import distinct, without

LISTS = [
    [],
    [5],
    [5, 5],
    [1, 2, 3],
    [3, 2, 1],
    [1, 2, 2, 3],
    [2**62, -(2**62), 0, 2**62],
    [7, 1, 7, 1, 7],
]


@pytest.mark.parametrize("values", LISTS)
def test_distinct(values: list[int]) -> None:
    ids = np.array(values, dtype=np.int64)
    before = ids.copy()
    assert distinct(ids).tolist() == sorted(set(values))
    assert (ids == before).all(), "the argument was changed"


@pytest.mark.parametrize("values", LISTS)
@pytest.mark.parametrize("others", LISTS)
def test_without(values: list[int], others: list[int]) -> None:
    ids = distinct(np.array(values, dtype=np.int64))
    left = without(ids, np.array(others, dtype=np.int64))
    assert left.tolist() == sorted(set(values) - set(others))


def test_random_ids() -> None:
    chance = np.random.default_rng(1)
    for _ in range(50):
        ids = chance.integers(0, 200, chance.integers(0, 300))
        others = chance.integers(0, 200, chance.integers(0, 100))
        assert distinct(ids).tolist() == np.unique(ids).tolist()
        assert without(distinct(ids), others).tolist() == np.setdiff1d(ids, others).tolist()


def test_small_integers_keep_their_type() -> None:
    types = np.array([3, 1, 3], dtype=np.int32)
    assert distinct(types).dtype == np.int32
