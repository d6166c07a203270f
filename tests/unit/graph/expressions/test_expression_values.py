"""Expressions, by table: text -> value; text -> error."""

import math

import pytest
from expression_support import (
    column,
    context,
    evaluate,
    expression,
    nodes,
    relationships,
    same,
    value,
)

from graph.cypher.expressions import Scope, compile_expression, constant_value
from graph.cypher.references import NodeRef, PathRef, RelationshipRef
from graph.errors import (
    CypherArgumentError,
    CypherSemanticError,
    CypherTypeError,
    GraphError,
    LimitError,
)
from graph.vector import Chunk, Kind, Vector

T, F, N = True, False, None

VALUES = [
    ("1 + 2", 3),
    ("1 + 2.0", 3.0),
    ("7 / 2", 3),
    ("-7 / 2", -3),
    ("7 / -2", -3),
    ("-7 % 3", -1),
    ("7 % -3", 1),
    ("-7.5 % 2", -1.5),
    ("5.0 % 0", math.nan),
    ("2 ^ 3", 8.0),
    ("(-8) ^ 0.5", math.nan),
    ("10.0 ^ 400", math.inf),
    ("1.0 / 0", math.inf),
    ("-1 / 0.0", -math.inf),
    ("0.0 / 0.0", math.nan),
    ("1 + null", N),
    ("null - 1", N),
    ("-(3)", -3),
    ("+3", 3),
    ("- null", N),
    ("9223372036854775807", 2**63 - 1),
    ("-9223372036854775807 - 1", -(2**63)),
    ("'a' + 'b'", "ab"),
    ("'a' + 1", "a1"),
    ("1.5 + 'a'", "1.5a"),
    ("'a' + true", "atrue"),
    ("'a' + null", N),
    ("[1] + [2]", [1, 2]),
    ("[1] + 2", [1, 2]),
    ("'x' + ['y']", ["x", "y"]),
    ("[1] + null", N),
    ("[[1]] + [2]", [[1], 2]),
    ("1 = 1.0", T),
    ("1 <> 2", T),
    ("null = null", N),
    ("null <> 1", N),
    ("1 < 2 < 3", T),
    ("1 < 3 < 2", F),
    ("3 < 2 < null", F),
    ("1 < null < 3", N),
    ("'a' < 'b'", T),
    ("'a' < 1", N),
    ("0.0 / 0.0 > 1", F),
    ("0.0 / 0.0 <> 0.0 / 0.0", T),
    ("9007199254740993 = 9007199254740992.0", F),
    ("9007199254740993 > 9007199254740992.0", T),
    ("true AND null", N),
    ("false AND null", F),
    ("null AND false", F),
    ("true OR null", T),
    ("null OR true", T),
    ("false OR null", N),
    ("true XOR true", F),
    ("true XOR null", N),
    ("NOT null", N),
    ("NOT false", T),
    ("false AND 1 / 0 = 1", F),
    ("true OR 1 / 0 = 1", T),
    ("null IS NULL", T),
    ("1 IS NOT NULL", T),
    ("CASE WHEN false THEN 1 WHEN null THEN 2 ELSE 3 END", 3),
    ("CASE 2 WHEN 1 THEN 'a' WHEN 2.0 THEN 'b' END", "b"),
    ("CASE null WHEN null THEN 1 ELSE 2 END", 2),
    ("CASE WHEN false THEN 1 END", N),
    ("CASE WHEN true THEN 1 ELSE 1 / 0 END", 1),
    ("coalesce(null, 1, 1 / 0)", 1),
    ("coalesce(null, null)", N),
    ("3 IN [1, 2, 3]", T),
    ("3 IN [1, 2]", F),
    ("3 IN [1, null]", N),
    ("null IN [1]", N),
    ("null IN []", F),
    ("1 IN null", N),
    ("1.0 IN [1]", T),
    ("true IN [1]", F),
    ("0.0 / 0.0 IN [0.0 / 0.0]", F),
    ("[1, 2] IN [1, [1, null]]", N),
    ("[1, 2] IN [[null, 'foo']]", F),
    ("[1, 2] IN [[1, 2], null]", T),
    ("[1, 2, 3][0]", 1),
    ("[1, 2, 3][-1]", 3),
    ("[1, 2, 3][3]", N),
    ("[1][null]", N),
    ("null[0]", N),
    ("{a: 1}['a']", 1),
    ("{a: 1}['b']", N),
    ("{a: 1}.a", 1),
    ("{a: {b: 2}}.a.b", 2),
    ("null.a", N),
    ("[1, 2, 3][1..]", [2, 3]),
    ("[1, 2, 3][..-1]", [1, 2]),
    ("[1, 2, 3][-5..5]", [1, 2, 3]),
    ("[1, 2, 3][3..1]", []),
    ("[1, 2, 3][null..1]", N),
    ("[]", []),
    ("{}", {}),
    ("{a: null, b: [1]}", {"a": N, "b": [1]}),
    ("'abc' STARTS WITH 'ab'", T),
    ("'abc' ENDS WITH 'ab'", F),
    ("'abc' CONTAINS ''", T),
    ("'abc' CONTAINS null", N),
    ("1 CONTAINS 'a'", N),
    ("'abc' =~ 'a.c'", T),
    ("'abcd' =~ 'a.c'", F),
    ("'ABC' =~ '(?i)abc'", T),
    ("'a' =~ null", N),
    ("[x IN [1, 2, 3] WHERE x > 1]", [2, 3]),
    ("[x IN [1, 2, 3] | x * x]", [1, 4, 9]),
    ("[x IN [1, 2, 3] WHERE x > 1 | [y IN [x, 1] | y + x]]", [[4, 3], [6, 4]]),
    ("[x IN [1, 2] | [y IN range(1, x) | [x, y]]]", [[[1, 1]], [[2, 1], [2, 2]]]),
    ("[x IN [[1, 2], [3]] | [x IN x | x]]", [[1, 2], [3]]),
    ("[x IN null | x]", N),
    ("[x IN [1, null] WHERE x > 0]", [1]),
    ("all(x IN [1, 2] WHERE x > 0)", T),
    ("all(x IN [1, null] WHERE x > 0)", N),
    ("all(x IN [0, null] WHERE x > 0)", F),
    ("all(x IN [] WHERE 1 / 0 = 1)", T),
    ("any(x IN [null, 1] WHERE x > 0)", T),
    ("any(x IN [null, 0] WHERE x > 0)", N),
    ("any(x IN [] WHERE true)", F),
    ("none(x IN [null] WHERE x > 0)", N),
    ("none(x IN [0] WHERE x > 0)", T),
    ("single(x IN [0, 1] WHERE x > 0)", T),
    ("single(x IN [1, 1, null] WHERE x > 0)", F),
    ("single(x IN [1, null] WHERE x > 0)", N),
    ("any(x IN null WHERE true)", N),
    ("reduce(a = 0, x IN [1, 2, 3] | a + x)", 6),
    ("reduce(a = '', x IN ['a', 'b'] | a + x)", "ab"),
    ("reduce(a = 5, x IN [] | a + x)", 5),
    ("reduce(a = 0, x IN null | a + x)", N),
    ("reduce(a = [], x IN [1, 2] | a + [x])", [1, 2]),
]


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_value(text, expected):
    found = value(text)
    assert same(found, expected), found


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_value_is_the_same_for_many_rows(text, expected):
    found = evaluate(text, {"unused": Vector.constant(1, 9)})
    assert all(same(each, expected) for each in found)


ERRORS = [
    ("9223372036854775807 + 1", CypherArgumentError, "integer overflow"),
    ("-9223372036854775807 - 2", CypherArgumentError, "integer overflow"),
    ("3037000500 * 3037000500", CypherArgumentError, "integer overflow"),
    ("-(-9223372036854775807 - 1)", CypherArgumentError, "integer overflow"),
    ("(-9223372036854775807 - 1) / -1", CypherArgumentError, "integer overflow"),
    ("1 / 0", CypherArgumentError, "/ by zero"),
    ("1 % 0", CypherArgumentError, "/ by zero"),
    ("true + 1", CypherTypeError, "Cannot add Boolean and Integer"),
    ("{} * 2", CypherTypeError, "Cannot multiply"),
    ("-'a'", CypherTypeError, "Cannot negate a String"),
    ("1 AND true", CypherTypeError, "expected a Boolean"),
    ("NOT 'a'", CypherTypeError, "expected a Boolean"),
    ("CASE WHEN 1 THEN 2 END", CypherTypeError, "expected a Boolean"),
    ("1 IN 2", CypherTypeError, "IN needs a List"),
    ("[1]['a']", CypherTypeError, "Cannot index a List"),
    ("[1][1.0]", CypherTypeError, "Cannot index a List"),
    ("{a: 1}[0]", CypherTypeError, "by String keys"),
    ("1[0]", CypherTypeError, "Cannot index a Integer"),
    ("(1).a", CypherTypeError, "cannot read property `a`"),
    ("'x'[0..1]", CypherTypeError, "slice"),
    ("[1]['a'..]", CypherTypeError, "slice must be Integers"),
    ("[x IN 1 | x]", CypherTypeError, "needs a List"),
    ("all(x IN 'a' WHERE true)", CypherTypeError, "needs a List"),
    ("'a' =~ '('", CypherArgumentError, "Invalid regular expression"),
    ("size(1)", CypherTypeError, "expected a List or String"),
    ("nosuch(1)", CypherSemanticError, "Unknown function"),
    ("size()", CypherSemanticError, "takes 1 arguments"),
    ("missing + 1", CypherSemanticError, "`missing` not defined"),
    ("$missing", CypherArgumentError, "Expected parameter\\(s\\): missing"),
    ("reduce(s = 'aaaaaaaa', i IN range(1, 40) | s + s)", LimitError, "at most"),
    ("range(1, 100000000)", LimitError, "at most"),
]


@pytest.mark.parametrize(("text", "error", "message"), ERRORS)
def test_error(text, error, message):
    with pytest.raises(error, match=message):
        value(text)


def test_arithmetic_errors_carry_their_code():
    for text in ("1 / 0", "9223372036854775807 + 1"):
        with pytest.raises(GraphError) as raised:
            value(text)
        assert raised.value.code == "Neo.ClientError.Statement.ArithmeticError"
    with pytest.raises(GraphError) as raised:
        value("$x")
    assert raised.value.code == "Neo.ClientError.Statement.ParameterMissing"


# ----------------------------------------------------------------------------- rows


def test_untaken_rows_are_not_evaluated():
    x = column([0, 5, 0, 2, 1, 10])
    assert evaluate("CASE WHEN x = 0 THEN -1 ELSE 10 / x END", {"x": x}) == [-1, 2, -1, 5, 10, 1]
    assert evaluate("x <> 0 AND 10 / x > 2", {"x": x}) == [F, F, F, T, T, F]
    assert evaluate("x = 0 OR 10 / x > 2", {"x": x}) == [T, F, T, T, T, F]
    found = evaluate("coalesce(CASE WHEN x = 0 THEN 0 END, 10 / x)", {"x": x})
    assert found == [0, 2, 0, 5, 10, 1]


def test_a_condition_on_a_short_circuited_row_keeps_unknowns_apart():
    x = column([N, T, F, N, T, F])
    y = column([T, N, N, F, F, T])
    assert evaluate("x AND y", {"x": x, "y": y}) == [N, N, F, F, F, F]
    assert evaluate("x OR y", {"x": x, "y": y}) == [T, T, N, N, T, T]
    assert evaluate("x AND y AND x", {"x": x, "y": y}) == [N, N, F, F, F, F]
    assert evaluate("x XOR y", {"x": x, "y": y}) == [N, N, N, N, T, T]


def test_case_keeps_the_types_of_its_branches():
    x = column([1, 2, 3])
    assert same(evaluate("CASE WHEN x = 2 THEN 'b' ELSE x END", {"x": x}), [1, "b", 3])
    assert same(evaluate("CASE x WHEN 1 THEN 1.5 WHEN 2 THEN 2 END", {"x": x}), [1.5, 2, N])


def test_constants_are_computed_once_and_only_when_a_row_asks():
    empty = {"x": Vector.nulls(Kind.INT, 0)}
    assert evaluate("x + 1 / 0", empty) == []
    compiled = compile_expression(expression("rand()"), Scope({}))
    assert len(set(compiled.evaluate(Chunk({}, 50), context()).to_list())) == 50
    assert not compiled.constant


def test_lambda_variables_shadow_outer_ones():
    x = column([10, 20])
    assert evaluate("[x IN [1, 2] | x] + x", {"x": x}) == [[1, 2, 10], [1, 2, 20]]
    assert evaluate("[y IN [1, 2] | x + y]", {"x": x}) == [[11, 12], [21, 22]]
    assert evaluate("reduce(a = x, y IN [1, 2] | a + y + x)", {"x": x}) == [33, 63]


def test_map_projection_and_exists_of_maps():
    m = column([{"a": 1, "b": 2}, {"b": 3}, N])
    assert evaluate("m {.a, c: 3}", {"m": m}) == [{"a": 1, "c": 3}, {"a": N, "c": 3}, N]
    assert evaluate("m {.*, b: 9, .z}", {"m": m}) == [
        {"a": 1, "b": 9, "z": N},
        {"b": 9, "z": N},
        N,
    ]
    assert evaluate("exists(m.a)", {"m": m}) == [T, F, F]


def test_lists_of_different_lengths():
    x = column([[1, 2, 3], [], N, [4]])
    assert evaluate("[y IN x WHERE y <> 2 | y * 2]", {"x": x}) == [[2, 6], [], N, [8]]
    assert evaluate("reduce(a = 0, y IN x | a + y)", {"x": x}) == [6, 0, N, 4]
    assert evaluate("any(y IN x WHERE y > 3)", {"x": x}) == [F, F, N, T]


def test_long_lists_are_evaluated_in_pieces():
    checks = []
    compiled = compile_expression(expression("size([y IN x WHERE y % 3 = 0])"), Scope({"x": N}))
    run = context(deadline_check=lambda: checks.append(1))
    vector = compiled.evaluate(Chunk({"x": column([list(range(30_000))])}, 1), run)
    assert vector.to_list() == [10_000]
    assert checks


# ----------------------------------------------------------------------------- graph


def test_properties_are_gathered_from_the_store_at_once():
    run = context()
    compiled = compile_expression(expression("n.age > $x"), Scope({"n": Kind.NODE}))
    run.parameters = {"x": 35}
    found = compiled.evaluate(Chunk({"n": nodes(0, 1, 2, None, 3)}, 5), run)
    assert found.to_list() == [F, T, N, N, F]
    assert run.root.gathers == 1


def test_property_access_by_every_route():
    n = nodes(0, 2, None)
    assert evaluate("n.age", {"n": n}) == [31, N, N]
    assert evaluate("n['name']", {"n": n}) == ["Ann", "Cy", N]
    assert evaluate("[n][0].name", {"n": n}) == ["Ann", "Cy", N]
    assert evaluate("{k: n}.k.name", {"n": n}) == ["Ann", "Cy", N]
    mixed = column([NodeRef(0), {"name": "map"}, RelationshipRef(0), N])
    assert evaluate("m.name", {"m": mixed}) == ["Ann", "map", N, N]
    assert evaluate("m.since", {"m": mixed}) == [N, N, 1999, N]
    assert evaluate("n {.name, .*, extra: 1}", {"n": n}) == [
        {"name": "Ann", "age": 31, "extra": 1},
        {"name": "Cy", "extra": 1},
        N,
    ]


def test_reading_a_deleted_entity_is_an_error():
    for text in ("n.name", "labels(n)", "properties(n)", "[n][0].name", "keys(n)"):
        with pytest.raises(GraphError, match="Node 99 has been deleted") as raised:
            evaluate(text, {"n": nodes(0, 99)})
        assert raised.value.code == "Neo.ClientError.Statement.EntityNotFound"
    compiled = compile_expression(expression("n.name"), Scope({"n": N}))
    run = context(check_deleted=False)
    assert compiled.evaluate(Chunk({"n": nodes(99)}, 1), run).to_list() == [N]


def test_labels_and_types_as_predicates():
    n = nodes(0, 1, 2, None)
    assert evaluate("n:Person", {"n": n}) == [T, T, F, N]
    assert evaluate("n:Admin:Person", {"n": n}) == [F, T, F, N]
    r = relationships(0, 1)
    assert evaluate("r:KNOWS", {"r": r}) == [T, F]
    mixed = column([NodeRef(1), RelationshipRef(0), N])
    assert evaluate("m:Person", {"m": mixed}) == [T, F, N]
    with pytest.raises(CypherTypeError, match="expected a Node or Relationship"):
        evaluate("m:Person", {"m": column([1])})


def test_entities_are_equal_by_id_and_kind():
    n, m, r = nodes(0, 1, None), nodes(0, 2, 1), relationships(0, 1, 0)
    assert evaluate("n = m", {"n": n, "m": m}) == [T, F, N]
    assert evaluate("n <> m", {"n": n, "m": m}) == [F, T, N]
    assert evaluate("m = r", {"m": m, "r": r}) == [F, F, F]
    assert evaluate("n < m", {"n": n, "m": m}) == [N, N, N]
    assert evaluate("n IN [m, n]", {"n": n, "m": m}) == [T, T, N]
    assert evaluate("n = id(n)", {"n": n}) == [F, F, N]


def test_functions_of_the_graph():
    n, r = nodes(1, None), relationships(0, 1)
    assert evaluate("id(n)", {"n": n}) == [1, N]
    assert evaluate("elementId(n)", {"n": n}) == ["1", N]
    assert evaluate("labels(n)", {"n": n}) == [["Person", "Admin"], N]
    assert evaluate("keys(n)", {"n": n}) == [["name", "age"], N]
    assert evaluate("type(r)", {"r": r}) == ["KNOWS", "LIVES_IN"]
    assert evaluate("startNode(r)", {"r": r}) == [NodeRef(0), NodeRef(1)]
    assert evaluate("endNode(r).name", {"r": r}) == ["Bob", 7]
    assert evaluate("properties(r)", {"r": r}) == [{"since": 1999}, {}]
    p = column([PathRef((0, 1, 3), (0, 1)), N])
    assert evaluate("length(p)", {"p": p}) == [2, N]
    assert evaluate("nodes(p)", {"p": p}) == [[NodeRef(0), NodeRef(1), NodeRef(3)], N]
    assert evaluate("[r IN relationships(p) | type(r)]", {"p": p}) == [["KNOWS", "LIVES_IN"], N]
    for text in ("labels(x)", "type(x)", "id(x)", "nodes(x)", "length(x)", "keys(x)"):
        with pytest.raises(CypherTypeError):
            evaluate(text, {"x": column([1])})


# ----------------------------------------------------------------------------- batched parameters


def test_parameters_may_be_columns_by_request():
    columns = {"x": column([10, 20, 30]), "l": column([[1], [2], [3]])}
    run = context(parameter_columns=columns)
    requests = Vector.of(Kind.INT, [2, 0, 0, 1])
    chunk = Chunk({"@request": requests, "n": column([30, 30, 10, 20])}, 4)
    scope = Scope({"n": N})
    for text, expected in [
        ("$x", [30, 10, 10, 20]),
        ("n = $x", [T, F, T, T]),
        ("$x + 1", [31, 11, 11, 21]),
        ("1 IN $l", [F, T, T, F]),
        ("[y IN $l | y + $x]", [[33], [11], [11], [22]]),
        ("CASE WHEN n = 30 THEN $x ELSE 0 END", [30, 10, 0, 0]),
        ("date({year: $x}).year", [30, 10, 10, 20]),
        ("reduce(a = 0, y IN [1] | a + $x)", [30, 10, 10, 20]),
    ]:
        assert (
            compile_expression(expression(text), scope).evaluate(chunk, run).to_list() == expected
        )
    with pytest.raises(CypherArgumentError, match="Expected parameter"):
        compile_expression(expression("$y"), scope).evaluate(chunk, run)


def test_constant_value():
    assert constant_value(expression("$n + 1"), context({"n": 4})) == 5
    with pytest.raises(CypherSemanticError):
        constant_value(expression("n"), context())


def test_aggregates_and_patterns_are_the_planners():
    for text in ("count(*)", "sum(1)", "[(a)-->(b) | 1]"):
        with pytest.raises(AssertionError):
            compile_expression(expression(text), Scope({"a": N, "b": N}))


def test_a_parameter_beyond_64_bits_is_refused():
    with pytest.raises(CypherArgumentError, match="64-bit"):
        value("$x", x=2**63)
