"""Tree utilities, and references on their way out of the engine."""

import pytest
from expression_support import FakeRoot, expression, nodes

from graph.cypher import references, syntax
from graph.cypher.functions.scalar import value_type
from graph.cypher.references import (
    NESTING_LEVELS_MAX,
    NodeRef,
    PathRef,
    RelationshipRef,
    boxed,
    materialise,
    materialise_column,
    tighten,
)
from graph.cypher.semantics import compare, equals, group_key, order_key
from graph.cypher.trees import aggregates_in, children, substitute, variables_in, walk
from graph.errors import LimitError
from graph.values import Node, Path, Relationship
from graph.vector import Kind, Vector

X, Y = syntax.Variable("x"), syntax.Variable("y")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1 + $p", set()),
        ("a.b + c[d]", {"a", "c", "d"}),
        ("[x IN xs WHERE x > y | x + z]", {"xs", "y", "z"}),
        ("[x IN x | x]", {"x"}),
        ("all(x IN xs WHERE x = y)", {"xs", "y"}),
        ("reduce(t = t0, x IN xs | t + x + k)", {"t0", "xs", "k"}),
        ("{a: b, c: [d]}", {"b", "d"}),
        ("CASE a WHEN b THEN c ELSE d END", {"a", "b", "c", "d"}),
        ("n {.a, b: c}", {"n", "c"}),
        ("count(DISTINCT a) + size(b)", {"a", "b"}),
        ("[(a)-[r]->(b {k: v}) WHERE w | z]", {"a", "r", "b", "v", "w", "z"}),
        ("a < b < c", {"a", "b", "c"}),
        ("a IS NULL AND b:L", {"a", "b"}),
    ],
)
def test_free_variables(text, names):
    assert variables_in(expression(text)) == names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1 + a", []),
        ("count(*) + sum(a) * count(*)", ["count(*)", "sum(a)"]),
        ("[x IN collect(a) | x]", ["collect(a)"]),
        ("{a: max(b)}.a", ["max(b)"]),
    ],
)
def test_aggregates(text, found):
    assert aggregates_in(expression(text)) == [expression(each) for each in found]


def test_substitution_is_outermost_first_and_respects_lambdas():
    count = expression("count(*)")
    assert substitute(expression("1 + count(*)"), {count: X}) == expression("1 + x")
    both = {expression("a.b"): X, syntax.Variable("a"): Y}
    assert substitute(expression("a.b + a.c"), both) == expression("x + y.c")
    swapped = substitute(expression("[a IN a | a + b]"), {syntax.Variable("a"): Y})
    assert swapped == expression("[a IN y | a + b]")
    inner = substitute(expression("[a IN z | a + b]"), {syntax.Variable("b"): Y})
    assert inner == expression("[a IN z | a + y]")
    same = expression("[a IN z | a + b]")
    assert substitute(same, {syntax.Variable("q"): Y}) is same
    assert substitute(expression("1"), {expression("1.0"): X}) == expression("1")


def test_walk_is_parents_first():
    tree = expression("f.a + 2")
    assert next(iter(walk(tree))) is tree
    assert [type(node).__name__ for node in walk(tree)] == [
        "Binary",
        "Property",
        "Variable",
        "Literal",
    ]
    assert list(children(expression("null"))) == []


# ----------------------------------------------------------------------------- references


def test_references_of_different_kinds_differ():
    assert NodeRef(1) != RelationshipRef(1)
    assert NodeRef(1) != 1
    assert len({NodeRef(1), NodeRef(1), RelationshipRef(1), PathRef((1,), ())}) == 3


def test_tighten_and_boxed_are_inverse():
    for values, kind in [
        ([1, 2], Kind.INT),
        ([1, None], Kind.INT),
        ([1.5], Kind.FLOAT),
        ([True, None], Kind.BOOL),
        (["a", None], Kind.STRING),
        ([NodeRef(1), None, NodeRef(2)], Kind.NODE),
        ([None, RelationshipRef(1)], Kind.RELATIONSHIP),
        ([NodeRef(1), RelationshipRef(1)], Kind.OBJECT),
        ([NodeRef(1), 1], Kind.OBJECT),
        ([1, 1.0], Kind.OBJECT),
        ([[1], None, {}], Kind.OBJECT),
        ([None, None], Kind.OBJECT),
        ([], Kind.OBJECT),
    ]:
        vector = tighten(values)
        assert vector.kind is kind
        assert boxed(vector) == values
    assert boxed(tighten([NodeRef(1)]), 3) == [NodeRef(1)] * 3


def test_a_column_of_entities_is_fetched_at_once():
    root = FakeRoot()
    found = materialise_column(nodes(1, None, 0), root)
    assert [None if n is None else n.id for n in found] == [1, None, 0]
    assert found[0].properties == {"name": "Bob", "age": 42}
    assert root.gathers == 1
    values = [[NodeRef(0), {"k": NodeRef(1)}], 5, None, PathRef((0, 1), (0,)), RelationshipRef(1)]
    root = FakeRoot()
    nested, five, none, path, relationship = materialise_column(Vector.objects(values), root)
    assert root.gathers == 1
    assert nested[0] == Node(0, (), {})
    assert nested[1]["k"].labels == ("Person", "Admin")
    assert (five, none) == (5, None)
    assert isinstance(path, Path)
    assert [n.id for n in path.nodes] == [0, 1]
    assert relationship == Relationship(1, "", 0, 0, {})


def test_columns_without_entities_pass_through():
    root = FakeRoot()
    assert materialise_column(tighten([1, None]), root) == [1, None]
    assert materialise_column(tighten(["a", [1, {"b": None}]]), root) == ["a", [1, {"b": None}]]
    assert root.gathers == 0
    assert materialise(NodeRef(0), root).id == 0


def test_values_that_nest_or_multiply_without_end_are_refused(monkeypatch):
    monkeypatch.setattr(references, "ELEMENTS_MAX", 10_000)
    deep: list = []
    for _ in range(NESTING_LEVELS_MAX + 1):
        deep = [deep]
    with pytest.raises(LimitError, match="nests more than"):
        materialise(deep, FakeRoot())
    wide: list = [1]
    for _ in range(60):
        wide = [wide, wide]
    for use in (order_key, group_key, value_type, lambda v: equals(v, v), lambda v: compare(v, v)):
        with pytest.raises(LimitError, match="nests more than"):
            use(deep)
        with pytest.raises(LimitError, match="more than 10000 elements"):
            use(wide)
    with pytest.raises(LimitError, match="more than 10000 elements"):
        materialise(wide, FakeRoot())


def test_the_deadline_is_checked_between_large_values():
    checks = []
    column = Vector.objects([list(range(60_000))] * 3)
    materialise_column(column, FakeRoot(), lambda: checks.append(1))
    assert len(checks) == 3
