"""Distinct ids: the same as NumPy's, in the same order."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from graph.distinct import common, disjoint, distinct, without

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
    both = distinct(np.array(others, dtype=np.int64))
    assert common(ids, both).tolist() == sorted(set(values) & set(others))
    assert disjoint(ids, both) is set(values).isdisjoint(others)


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


HASHING = {"unique", "setdiff1d", "intersect1d", "union1d"}
SORTING = {"return_index", "return_inverse", "return_counts", "axis"}


def hashing_calls(source: str) -> Iterator[int]:
    """Lines that call a function of NumPy which holds the interpreter lock for large arrays."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in HASHING
            and not {keyword.arg for keyword in node.keywords} & SORTING
        ):
            yield node.lineno


def test_the_rule_finds_what_it_is_for() -> None:
    assert list(hashing_calls("np.unique(a)\nnp.unique(a, return_index=True)")) == [1]


@pytest.mark.parametrize("package", ["graph", "actors"])
def test_nobody_asks_numpy_for_distinct_integers(package: str) -> None:
    root = Path(__file__).resolve().parents[4]
    found = {
        f"{path.relative_to(root)}:{line}"
        for path in sorted((root / package).rglob("*.py"))
        for line in hashing_calls(path.read_text())
    }
    assert found == set(), "use graph.distinct"
