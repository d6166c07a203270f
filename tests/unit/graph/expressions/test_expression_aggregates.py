"""Aggregates and grouping against the obvious way to compute them."""

import math
import statistics

import numpy as np
import pytest
from expression_support import same
from hypothesis import given, settings
from hypothesis import strategies as st
from neo4j.time import Duration

from graph.cypher.functions.aggregates import argument_count, make_aggregate
from graph.cypher.grouping import TABLE_ENTRIES_MAX, Grouper, concat_values
from graph.cypher.references import NodeRef, RelationshipRef, boxed, tighten
from graph.cypher.semantics import group_key, order_key
from graph.errors import CypherArgumentError, CypherSemanticError, CypherTypeError, LimitError
from graph.vector import Kind, Vector


def run(name, chunks, distinct=False, group_count=None):
    """Aggregate chunks of (group, value, ...) rows; the values by group."""
    aggregate = make_aggregate(name, distinct)
    state = aggregate.create()
    highest = 0
    for rows in chunks:
        groups = np.array([row[0] for row in rows], dtype=np.int64)
        highest = max([highest, *(row[0] + 1 for row in rows)])
        arguments = [tighten([row[i + 1] for row in rows]) for i in range(argument_count(name))]
        aggregate.update(state, groups, highest, arguments)
    return boxed(aggregate.finish(state, highest if group_count is None else group_count))


def values_of(name, values, distinct=False):
    return run(name, [[(0, value) for value in values]], distinct, 1)[0]


TABLE = [
    ("count", [1, None, 2], 2),
    ("count", [], 0),
    ("sum", [1, 2, None], 3),
    ("sum", [], 0),
    ("sum", [None], 0),
    ("sum", [1, 0.5], 1.5),
    ("sum", [0.25, 0.5], 0.75),
    ("sum", [Duration(days=1), Duration(hours=1)], Duration(days=1, hours=1)),
    ("avg", [1, 2], 1.5),
    ("avg", [1, 2, None], 1.5),
    ("avg", [2**63 - 1, 2**63 - 1], float(2**63 - 1)),
    ("avg", [], None),
    ("avg", [Duration(days=1), Duration(days=2)], Duration(days=1, hours=12)),
    ("min", [2, 1, None], 1),
    ("max", [1, 2.5, 2], 2.5),
    ("max", ["a", 1, [3]], 1),
    ("min", ["a", 1, [3]], [3]),
    ("max", [1.0, math.nan], math.nan),
    ("min", [1.0, math.nan], 1.0),
    ("min", [math.nan], math.nan),
    ("max", [None], None),
    ("min", [True, False], False),
    ("max", ["b", "abc"], "b"),
    ("min", [NodeRef(3), NodeRef(2)], NodeRef(2)),
    ("collect", [1, None, "a"], [1, "a"]),
    ("collect", [], []),
    ("collect", [NodeRef(1)], [NodeRef(1)]),
    ("stDev", [1, 2, 3, 4], statistics.stdev([1, 2, 3, 4])),
    ("stDevP", [1, 2, 3, 4], statistics.pstdev([1, 2, 3, 4])),
    ("stDev", [5], 0.0),
    ("stDev", [], 0.0),
]


@pytest.mark.parametrize(("name", "values", "expected"), TABLE)
def test_table(name, values, expected):
    found = values_of(name, values)
    if isinstance(expected, float) and not math.isnan(expected):
        assert found == pytest.approx(expected, rel=1e-14)
        assert type(found) is float
    else:
        assert same(found, expected), found


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("count", [1, 1.0, None, "1", True], 3),
        ("sum", [1, 1, 2], 3),
        ("collect", [1, None, 1, [1], [1.0]], [1, [1]]),
        ("avg", [1, 1, 4], 2.5),
        ("max", [1, 1], 1),
    ],
)
def test_distinct(name, values, expected):
    assert same(values_of(name, values, distinct=True), expected)


@pytest.mark.parametrize(
    ("values", "fraction", "continuous", "discrete"),
    [
        ([10.0, 20.0, 30.0], 0.0, 10.0, 10.0),
        ([10.0, 20.0, 30.0], 0.5, 20.0, 20.0),
        ([10.0, 20.0, 30.0], 1.0, 30.0, 30.0),
        ([10, 20], 0.5, 15.0, 10),
        ([10, 20], 0.51, 15.1, 20),
        ([3, 1, None, 2], 1, 3.0, 3),
        ([], 0.5, None, None),
    ],
)
def test_percentiles(values, fraction, continuous, discrete):
    rows = [(0, value, fraction) for value in values]
    found = run("percentileCont", [rows], group_count=1)[0]
    assert found is None if continuous is None else found == pytest.approx(continuous)
    assert same(run("percentileDisc", [rows], group_count=1)[0], discrete)


@pytest.mark.parametrize("fraction", [1000, -1, 1.1])
def test_percentile_out_of_range(fraction):
    with pytest.raises(CypherArgumentError, match=r"between 0\.0 and 1\.0"):
        run("percentileCont", [[(0, 1, fraction)]])


def test_errors():
    with pytest.raises(CypherArgumentError, match="integer overflow"):
        values_of("sum", [2**63 - 1, 1])
    for name in ("sum", "avg", "stDev"):
        with pytest.raises(CypherTypeError, match="Numbers"):
            values_of(name, ["a", 1])
    with pytest.raises(CypherTypeError, match="mix"):
        values_of("sum", [1, Duration(days=1)])
    with pytest.raises(CypherTypeError):
        run("percentileDisc", [[(0, 1, "x")]])
    with pytest.raises(CypherSemanticError):
        make_aggregate("median")


def test_sums_beyond_64_bits_on_the_way_are_exact():
    big = 2**62
    assert values_of("sum", [big, big, -big, 7]) == big + 7
    assert run("sum", [[(0, big)], [(0, big), (1, 3)], [(0, -big)]]) == [big, 3]


def test_count_star_counts_rows():
    assert run("count(*)", [[(0,), (1,), (0,)], [(2,)]]) == [2, 1, 1]


def test_deviation_keeps_its_digits_far_from_zero():
    values = [1e9 + x for x in (4.0, 7.0, 13.0, 16.0)]
    chunks = [[(0, v)] for v in values]
    assert run("stDev", chunks)[0] == pytest.approx(math.sqrt(30), rel=1e-9)


def test_collected_values_count_against_the_budget():
    class Budget:
        left = 1000

        def charge(self, size_bytes):
            self.left -= size_bytes
            if self.left < 0:
                raise LimitError("used up")

    state = make_aggregate("collect").create(Budget())
    groups = np.zeros(100, dtype=np.int64)
    with pytest.raises(LimitError):
        make_aggregate("collect").update(state, groups, 1, [Vector.constant(1, 100)])
    with pytest.raises(LimitError):
        Grouper(1, Budget()).assign([tighten(range(100))], 100)


# ----------------------------------------------------------------------------- the naive way


def naive(name, values):
    values = [value for value in values if value is not None]
    if name == "count":
        return len(values)
    if name == "collect":
        return values
    if name in ("min", "max"):
        choose = min if name == "min" else max
        return choose(values, key=order_key) if values else None
    floats = any(type(value) is float for value in values)
    return float(sum(values)) if floats else sum(values)


elements = {
    "int": st.integers(-100, 100),
    "float": st.integers(-8, 8).map(lambda x: x / 4),
    "string": st.text("ab", max_size=2),
    "mixed": st.integers(-3, 3) | st.integers(-8, 8).map(lambda x: x / 4),
}


@st.composite
def grouped(draw):
    """Chunks whose kinds may change from one to the next."""
    chunks = []
    for _ in range(draw(st.integers(1, 3))):
        element = elements[draw(st.sampled_from(["int", "float", "mixed"]))] | st.none()
        rows = draw(st.lists(st.tuples(st.integers(0, 4), element), min_size=1, max_size=12))
        chunks.append(rows)
    return chunks


@pytest.mark.parametrize("name", ["count", "sum", "min", "max", "collect"])
@given(grouped(), st.booleans())
@settings(max_examples=25, deadline=None)
def test_as_the_naive_way(name, chunks, distinct):
    rows = [row for chunk in chunks for row in chunk]
    found = run(name, chunks, distinct)
    for group in range(max(row[0] for row in rows) + 1):
        values = [value for g, value in rows if g == group]
        if distinct:
            values = list({group_key(v): v for v in reversed(values)}.values())[::-1]
            firsts = {}
            for g, v in rows:
                if g == group and v is not None:
                    firsts.setdefault(group_key(v), v)
            values = list(firsts.values())
        expected = naive(name, values)
        if name in ("min", "max") and expected is not None:
            assert order_key(found[group]) == order_key(expected)
        else:
            assert same(found[group], expected), (found[group], expected)


# ----------------------------------------------------------------------------- grouping

key_elements = {
    "int": st.integers(-2, 5) | st.sampled_from([2**40, TABLE_ENTRIES_MAX + 1]),
    "float": st.sampled_from([0.0, -0.0, 1.0, 1.5, math.nan, 2.0**40]),
    "bool": st.booleans(),
    "string": st.text("ab", max_size=1),
    "node": st.builds(NodeRef, st.integers(0, 3)),
    "relationship": st.builds(RelationshipRef, st.integers(0, 3)),
    "list": st.lists(st.integers(0, 1) | st.none(), max_size=1),
}
key_elements["mixed"] = st.one_of(*key_elements.values())


@st.composite
def keyed(draw):
    width = draw(st.integers(1, 3))
    chunks = []
    for _ in range(draw(st.integers(1, 3))):
        length = draw(st.integers(0, 8))
        columns = []
        for _ in range(width):
            element = key_elements[draw(st.sampled_from([*key_elements]))] | st.none()
            columns.append(draw(st.lists(element, min_size=length, max_size=length)))
        chunks.append(columns)
    return width, chunks


@given(keyed())
@settings(deadline=None)
def test_groups_are_the_equivalence_classes_of_keys(case):
    width, chunks = case
    grouper = Grouper(width)
    numbers: dict = {}
    firsts = []
    for columns in chunks:
        vectors = [tighten(values) for values in columns]
        groups, count = grouper.assign(vectors, len(columns[0]))
        for row, group in zip(zip(*columns, strict=True), groups.tolist(), strict=True):
            key = tuple(map(group_key, row))
            if key not in numbers:
                numbers[key] = group
                firsts.append((group, row))
            assert numbers[key] == group
        assert count == len(numbers)
        assert sorted(numbers.values()) == list(range(count))
    keys = [boxed(column) for column in grouper.key_columns()]
    for group, row in firsts:
        found = tuple(map(group_key, (key[group] for key in keys)))
        assert found == tuple(map(group_key, row))


def test_tables_and_dictionaries_of_integers_agree():
    """A value seen before its table existed keeps its group."""
    grouper = Grouper(1)
    first, _ = grouper.assign([Vector.of(Kind.INT, [5, 900, -1, 2**40])], 4)
    assert first.tolist() == [0, 1, 2, 3]
    many = np.arange(1000)
    second, count = grouper.assign([Vector.of(Kind.INT, many)], 1000)
    assert (second[5], second[900]) == (0, 1)
    assert count == 1002
    third, count = grouper.assign([Vector.of(Kind.INT, [2**40, -1, 7, 900] * 40)], 160)
    assert third[:4].tolist() == [3, 2, second[7], 1]
    assert count == 1002


def test_distinct_rows_are_the_first_of_their_group():
    grouper = Grouper(2)
    rows = grouper.new_rows([tighten([1, 1, 2, 1]), tighten(["a", "a", "a", None])], 4)
    assert rows.tolist() == [0, 2, 3]
    rows = grouper.new_rows([tighten([2.0, 3]), tighten(["a", "a"])], 2)
    assert rows.tolist() == [1]
    assert len(grouper.new_rows([tighten([3]), tighten(["a"])], 1)) == 0


def test_without_keys_there_is_one_group():
    grouper = Grouper(0)
    groups, count = grouper.assign([], 3)
    assert groups.tolist() == [0, 0, 0]
    assert count == 1
    assert grouper.key_columns() == []


def test_values_of_several_kinds_are_joined_as_values():
    joined = concat_values([Vector.of(Kind.NODE, [1]), tighten([1]), tighten([None])])
    assert boxed(joined) == [NodeRef(1), 1, None]
