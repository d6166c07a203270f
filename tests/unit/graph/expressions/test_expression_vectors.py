"""The vectorised paths and the scalar operators agree on any typed columns, errors included."""

import math

import pytest
from expression_support import column, context, evaluate, expression, same
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.cypher.arithmetic import SCALAR_OPERATORS
from graph.cypher.expressions import Scope, compile_expression
from graph.cypher.expressions_comparison import SCALAR_COMPARISONS
from graph.cypher.references import NodeRef, boxed
from graph.cypher.semantics import equals
from graph.errors import GraphError
from graph.vector import Chunk, Kind

INT_EDGES = [0, 1, -1, 2**53, 2**53 + 1, -(2**53) - 1, 2**62, -(2**63), 2**63 - 1]
integers = st.sampled_from(INT_EDGES) | st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9)
floats = st.sampled_from([0.0, -0.0, 1.0, 2.0**53, math.nan, math.inf]) | st.floats()
element_kinds = {
    "int": integers,
    "small": st.integers(-9, 9),
    "float": floats,
    "bool": st.booleans(),
    "string": st.text(st.sampled_from("ab1"), max_size=2),
    "node": st.builds(NodeRef, st.integers(0, 3)),
    "mixed": integers
    | floats
    | st.booleans()
    | st.text(max_size=1)
    | st.lists(integers, max_size=2),
}


@st.composite
def columns(draw, count=2, kinds=tuple(element_kinds)):
    """Columns of one length, each of one kind, with or without nulls."""
    length = draw(st.integers(1, 12))
    found = []
    for _ in range(count):
        element = element_kinds[draw(st.sampled_from(kinds))]
        if draw(st.booleans()):
            element = element | st.none()
        found.append(draw(st.lists(element, min_size=length, max_size=length)))
    return found


def outcome(compute):
    """The result, or the error's type and message."""
    try:
        return compute()
    except GraphError as error:
        return type(error), error.message


def agree(text, scalar, a, b):
    naive = outcome(lambda: [scalar(x, y) for x, y in zip(a, b, strict=True)])
    found = outcome(lambda: evaluate(text, {"a": column(a), "b": column(b)}))
    assert same(found, naive), (found, naive)


@pytest.mark.parametrize("operator", [*SCALAR_COMPARISONS])
@given(columns())
@settings(max_examples=30, deadline=None)
def test_comparisons(operator, pair):
    agree(f"a {operator} b", SCALAR_COMPARISONS[operator], *pair)


@pytest.mark.parametrize("operator", [*SCALAR_OPERATORS])
@given(columns(kinds=("int", "small", "float", "mixed")))
@settings(max_examples=30, deadline=None)
def test_arithmetic(operator, pair):
    agree(f"a {operator} b", SCALAR_OPERATORS[operator], *pair)


@pytest.mark.parametrize("operator", [*SCALAR_OPERATORS, *SCALAR_COMPARISONS])
@given(columns(count=1, kinds=("int", "float", "string")), integers | floats | st.none())
@settings(max_examples=20, deadline=None)
def test_constants_on_either_side(operator, pair, constant):
    scalar = {**SCALAR_OPERATORS, **SCALAR_COMPARISONS}[operator]
    (a,) = pair
    for text, compute in (
        (f"a {operator} $c", lambda x: scalar(x, constant)),
        (f"$c {operator} a", lambda x: scalar(constant, x)),
    ):
        naive = outcome(lambda compute=compute: [compute(x) for x in a])
        found = outcome(lambda text=text: evaluate(text, {"a": column(a)}, {"c": constant}))
        assert same(found, naive), (found, naive)


def conjunction(a, b):
    return False if a is False or b is False else None if None in (a, b) else True


def disjunction(a, b):
    return True if a is True or b is True else None if None in (a, b) else False


def exclusion(a, b):
    return None if a is None or b is None else a != b


@pytest.mark.parametrize(
    ("operator", "scalar"), [("AND", conjunction), ("OR", disjunction), ("XOR", exclusion)]
)
@given(columns(kinds=("bool",)))
@settings(max_examples=40, deadline=None)
def test_logic(operator, scalar, pair):
    agree(f"a {operator} b", scalar, *pair)
    agree(f"NOT (a {operator} b)", lambda a, b: exclusion(scalar(a, b), True), *pair)


def membership(value, items):
    if items is None:
        return None
    found = [equals(value, item) for item in items]
    return True if True in found else None if None in found else False


@given(columns(count=1), st.lists(element_kinds["mixed"] | st.none(), max_size=6))
@settings(max_examples=40, deadline=None)
def test_membership_in_a_constant_list(pair, items):
    (a,) = pair
    naive = [membership(value, items) for value in a]
    assert evaluate("a IN $c", {"a": column(a)}, {"c": items}) == naive
    assert evaluate("a IN b", {"a": column(a), "b": column([items] * len(a))}) == naive


TEXTS = [
    "a + b * 2",
    "CASE WHEN a > b THEN a ELSE b END",
    "coalesce(a, b, 0)",
    "a = b OR a IS NULL AND b > 1",
    "[x IN [a, b] WHERE x > 1 | x + a]",
    "abs(a) + sign(b)",
    "-a < b",
    "toString(a) + toString(b)",
    "reduce(t = a, x IN [b, 1] | t + x)",
    "{k: a}.k = b",
]


@pytest.mark.parametrize("text", TEXTS)
@given(columns(kinds=("small", "float")))
@settings(max_examples=20, deadline=None)
def test_a_chunk_gives_what_its_rows_give(text, pair):
    a, b = pair
    whole = outcome(lambda: evaluate(text, {"a": column(a), "b": column(b)}))
    rows = zip(a, b, strict=True)
    parts = [
        outcome(lambda x=x, y=y: evaluate(text, {"a": column([x]), "b": column([y])})[0])
        for x, y in rows
    ]
    if isinstance(whole, tuple):
        assert whole in parts
    else:
        assert same(whole, parts)


def test_typed_results_stay_typed():
    chunk = Chunk({"a": column(range(100)), "f": column([0.5] * 100)}, 100)
    for text, kind in [
        ("a + 1", Kind.INT),
        ("a * f", Kind.FLOAT),
        ("a > 3", Kind.BOOL),
        ("a > 3 AND f < 1", Kind.BOOL),
        ("CASE WHEN a > 3 THEN a END", Kind.INT),
        ("'x'", Kind.STRING),
        ("{k: a}.k", Kind.INT),
        ("abs(a)", Kind.INT),
    ]:
        compiled = compile_expression(expression(text), Scope({"a": None, "f": None}))
        vector = compiled.evaluate(chunk, context())
        assert vector.kind is kind, text
        assert len(boxed(vector)) == 100
