"""What counts as growth."""

from __future__ import annotations

from collections.abc import Callable

from tests.nemesis.soak import SAMPLES_MIN, Sample, growth


def series(value: Callable[[int], float], count: int = 40) -> list[list[Sample]]:
    return [[Sample("server 1", {"memory_mb": value(x)})] for x in range(count)]


def test_what_keeps_its_size_has_not_grown() -> None:
    assert growth(series(lambda x: 300.0 + x % 7)) == []


def test_caches_may_fill_at_first() -> None:
    assert growth(series(lambda x: 100.0 * min(x, 8))) == []


def test_steady_growth_is_found() -> None:
    (found,) = growth(series(lambda x: 200.0 + 5.0 * x))
    assert found.startswith("memory_mb of server 1 grew from ")


def test_a_single_high_value_is_noise() -> None:
    assert growth(series(lambda x: 900.0 if x == 39 else 200.0)) == []


def test_a_short_run_says_nothing() -> None:
    assert growth(series(lambda x: 1000.0 * x, SAMPLES_MIN - 1)) == []
