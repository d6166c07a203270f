"""Trees of expressions, by table: text -> tree; precedence, and the names of columns."""

import pytest
from frontend_support import clauses, expression, lit, node, param, path, prop, rel, var

from graph.cypher.syntax import (
    Binary,
    Case,
    Comparison,
    CountStar,
    CountSubquery,
    Direction,
    ExistsSubquery,
    Expression,
    FunctionCall,
    HasLabels,
    Index,
    IsNull,
    ListComprehension,
    ListLiteral,
    Literal,
    MapLiteral,
    MapProjection,
    PatternComprehension,
    PatternCount,
    PatternPredicate,
    Property,
    Quantifier,
    Reduce,
    Return,
    Slice,
    Unary,
)

A, B, C, N, X = (var(name) for name in "abcnx")
ONE, TWO, THREE = lit(1), lit(2), lit(3)
TO_B = path(node("a"), rel(), node("b"))
NAMED = path(node("a"), rel(), node("b"), variable="x")

TREES: list[tuple[str, Expression]] = [
    # collections
    ("[]", ListLiteral(())),
    ("[1, [2], a]", ListLiteral((ONE, ListLiteral((TWO,)), A))),
    ("{}", MapLiteral(())),
    ("{a: 1, `b c`: {}}", MapLiteral((("a", ONE), ("b c", MapLiteral(()))))),
    ("{match: 1, RETURN: 2}", MapLiteral((("match", ONE), ("RETURN", TWO)))),
    ("a {.x, .*, y: 1, b}", MapProjection(A, (("x", None), ("*", None), ("y", ONE), ("b", B)))),
    ("a {}", MapProjection(A, ())),
    ("a {.return, match: 1}", MapProjection(A, (("return", None), ("match", ONE)))),
    # parts
    ("a.b.c", Property(prop("a", "b"), "c")),
    ("a.order", prop("a", "order")),
    ("{a: 1}.a", Property(MapLiteral((("a", ONE),)), "a")),
    ("$p.a", Property(param("p"), "a")),
    ("a[1]", Index(A, ONE)),
    ("a[1][2].x", Property(Index(Index(A, ONE), TWO), "x")),
    ("a['k']", Index(A, lit("k"))),
    ("a[1..2]", Slice(A, ONE, TWO)),
    ("a[..2]", Slice(A, None, TWO)),
    ("a[1..]", Slice(A, ONE, None)),
    ("a[..]", Slice(A, None, None)),
    ("a[-1..-2]", Slice(A, lit(-1), lit(-2))),
    ("n:A", HasLabels(N, ("A",))),
    ("n:A:B", HasLabels(N, ("A", "B"))),
    ("n : A & B", HasLabels(N, ("A", "B"))),
    ("n:Order:`x y`", HasLabels(N, ("Order", "x y"))),
    ("(n):A", HasLabels(N, ("A",))),
    # unary
    ("-a", Unary("-", A)),
    ("+a", Unary("+", A)),
    ("- -a", Unary("-", Unary("-", A))),
    ("-1", lit(-1)),
    ("- 1", lit(-1)),
    ("--1", Unary("-", lit(-1))),
    ("+1", Unary("+", ONE)),
    ("-a.x", Unary("-", prop("a", "x"))),
    ("NOT a", Unary("NOT", A)),
    ("NOT NOT a", Unary("NOT", Unary("NOT", A))),
    # calls
    ("f()", FunctionCall("f", ())),
    ("Foo.Bar.baz(a, 1)", FunctionCall("foo.bar.baz", (A, ONE))),
    ("toUPPER(a)", FunctionCall("toupper", (A,))),
    ("count(*)", CountStar()),
    ("COUNT ( * )", CountStar()),
    ("count(a)", FunctionCall("count", (A,))),
    ("count(DISTINCT a)", FunctionCall("count", (A,), True)),
    ("collect(distinct a.b)", FunctionCall("collect", (prop("a", "b"),), True)),
    ("a.count", prop("a", "count")),
    ("count.a", prop("count", "a")),
    # names that are keywords elsewhere
    ("count", var("count")),
    ("any + none", Binary("+", var("any"), var("none"))),
    ("filter.show", prop("filter", "show")),
    ("reduce", var("reduce")),
    ("any(a)", FunctionCall("any", (A,))),
    ("range(1, 2)", FunctionCall("range", (ONE, TWO))),
    # CASE
    ("CASE WHEN a THEN 1 END", Case(None, ((A, ONE),), None)),
    ("CASE a WHEN 1 THEN 2 WHEN 2 THEN 3 ELSE b END", Case(A, ((ONE, TWO), (TWO, THREE)), B)),
    ("CASE WHEN a THEN 1 ELSE 2 END + 1", Binary("+", Case(None, ((A, ONE),), TWO), ONE)),
    # what goes through a list
    ("[x IN a]", ListComprehension("x", A, None, None)),
    ("[x IN a | x.b]", ListComprehension("x", A, None, prop("x", "b"))),
    ("[x IN a WHERE x]", ListComprehension("x", A, X, None)),
    ("[x IN a WHERE x | 1]", ListComprehension("x", A, X, ONE)),
    ("[x IN a, 1]", ListLiteral((Binary("IN", X, A), ONE))),
    ("[x IN [1, 2] | x]", ListComprehension("x", ListLiteral((ONE, TWO)), None, X)),
    ("[(x IN a)]", ListLiteral((Binary("IN", X, A),))),
    ("extract(x IN a | x.b)", ListComprehension("x", A, None, prop("x", "b"))),
    ("filter(x IN a WHERE x)", ListComprehension("x", A, X, None)),
    ("all(x IN a WHERE x = 1)", Quantifier("all", "x", A, Binary("=", X, ONE))),
    ("any(x IN a WHERE x)", Quantifier("any", "x", A, X)),
    ("NONE(x IN a WHERE x)", Quantifier("none", "x", A, X)),
    ("single(x IN a WHERE x)", Quantifier("single", "x", A, X)),
    ("reduce(c = 0, x IN a | c + x)", Reduce("c", lit(0), "x", A, Binary("+", C, X))),
    # patterns
    ("(a)-->(b)", PatternPredicate((TO_B,))),
    ("(a)--(b)", PatternPredicate((path(node("a"), rel(direction=Direction.BOTH), node("b")),))),
    ("NOT (a)-->(b)", Unary("NOT", PatternPredicate((TO_B,)))),
    ("(a)<--()", PatternPredicate((path(node("a"), rel(direction=Direction.IN), node()),))),
    (
        "(a:A {x: 1})-[r:R*]->()",
        PatternPredicate(
            (
                path(
                    node("a", ("A",), MapLiteral((("x", ONE),))),
                    rel("r", ("R",), hops=(None, None)),
                    node(),
                ),
            )
        ),
    ),
    ("exists((a)-->(b))", PatternPredicate((TO_B,), form="exists")),
    ("exists(a.b)", IsNull(prop("a", "b"), True)),
    ("exists(a['b'])", IsNull(Index(A, lit("b")), True)),
    ("EXISTS { (a)-->(b) }", PatternPredicate((TO_B,), form="subquery")),
    ("EXISTS { (a)-->(b), (c) WHERE c }", PatternPredicate((TO_B, path(node("c"))), C, "subquery")),
    ("EXISTS { MATCH (a)-->(b) WHERE c }", PatternPredicate((TO_B,), C, "subquery")),
    ("EXISTS { MATCH (a)-->(b) RETURN 1 }", PatternPredicate((TO_B,), None, "subquery")),
    ("COUNT { (a)-->(b) }", PatternCount((TO_B,))),
    ("count { MATCH (a)-->(b) WHERE c RETURN true }", PatternCount((TO_B,), C)),
    ("[(a)-->(b) | b]", PatternComprehension(TO_B, None, B)),
    ("[(a)-->(b) WHERE c | b]", PatternComprehension(TO_B, C, B)),
    ("[x = (a)-->(b) | x]", PatternComprehension(NAMED, None, X)),
    ("[(a)-->(b)]", ListLiteral((PatternPredicate((TO_B,)),))),
    ("[(a)-->(b), 1]", ListLiteral((PatternPredicate((TO_B,)), ONE))),
    # parentheses that are no pattern
    ("(a)", A),
    ("((a))", A),
    ("(a) - (b)", Binary("-", A, B)),
    ("(1)--(2)", Binary("-", ONE, Unary("-", TWO))),
    ("(a.x)-[1][0]", Binary("-", prop("a", "x"), Index(ListLiteral((ONE,)), lit(0)))),
    ("(a) < -(b)", Binary("<", A, Unary("-", B))),
    ("a<-1", Binary("<", A, lit(-1))),
    ("a<--b", Binary("<", A, Unary("-", Unary("-", B)))),
]


@pytest.mark.parametrize(("text", "tree"), TREES)
def test_trees(text: str, tree: Expression) -> None:
    assert expression(text) == tree


# Each line: an expression, and the same with the parentheses that precedence implies.
PRECEDENCE = [
    ("1 + 2 + 3", "(1 + 2) + 3"),
    ("1 - 2 - 3", "(1 - 2) - 3"),
    ("1 + 2 * 3", "1 + (2 * 3)"),
    ("1 * 2 + 3", "(1 * 2) + 3"),
    ("8 / 4 / 2 % 3", "((8 / 4) / 2) % 3"),
    ("2 ^ 3 ^ 2", "(2 ^ 3) ^ 2"),
    ("2 * 3 ^ 2", "2 * (3 ^ 2)"),
    ("-a ^ 2", "(-a) ^ 2"),
    ("-a.x + 1", "(-(a.x)) + 1"),
    ("a OR b AND c", "a OR (b AND c)"),
    ("a OR b XOR c AND NOT n", "a OR (b XOR (c AND (NOT n)))"),
    ("a AND b OR c", "(a AND b) OR c"),
    ("NOT a AND b", "(NOT a) AND b"),
    ("NOT a = b", "NOT (a = b)"),
    ("NOT a IS NULL", "NOT (a IS NULL)"),
    ("a = b AND c = n", "(a = b) AND (c = n)"),
    ("a + 1 = b * 2", "(a + 1) = (b * 2)"),
    ("a + b IS NULL", "(a + b) IS NULL"),
    ("a = b IS NULL", "a = (b IS NULL)"),
    ("a + 1 IN b", "(a + 1) IN b"),
    ("a IN b + c", "a IN (b + c)"),
    ("a IN b = c", "(a IN b) = c"),
    ("a STARTS WITH b + c", "a STARTS WITH (b + c)"),
    ("a IS NOT NULL = true", "(a IS NOT NULL) = true"),
    ("a IS NULL IS NULL", "(a IS NULL) IS NULL"),
    ("a:A AND b:B", "(a:A) AND (b:B)"),
    ("a AND b AND c", "(a AND b) AND c"),
    ("a ENDS WITH b AND c CONTAINS n", "(a ENDS WITH b) AND (c CONTAINS n)"),
    ("a =~ b OR c", "(a =~ b) OR c"),
]


@pytest.mark.parametrize(("text", "explicit"), PRECEDENCE)
def test_precedence(text: str, explicit: str) -> None:
    assert expression(text) == expression(explicit)


OPERATORS = [
    *((f"a {operator} b", operator) for operator in ("+", "-", "*", "/", "%", "^", "IN", "=~")),
    *((f"a{operator}b", operator) for operator in ("=", "<>", "<", "<=", ">", ">=")),
    ("a AND b", "AND"),
    ("a or b", "OR"),
    ("a Xor b", "XOR"),
    ("a STARTS WITH b", "STARTS_WITH"),
    ("a ends  with b", "ENDS_WITH"),
    ("a CONTAINS b", "CONTAINS"),
    ("a != b", "<>"),
]


@pytest.mark.parametrize(("text", "operator"), OPERATORS)
def test_operators(text: str, operator: str) -> None:
    assert expression(text) == Binary(operator, A, B)


def test_null_predicates() -> None:
    assert expression("a IS NULL") == IsNull(A, False)
    assert expression("a is not null") == IsNull(A, True)


def test_two_comparisons_are_a_chain_and_one_is_not() -> None:
    assert expression("a < b") == Binary("<", A, B)
    assert expression("a < b <= c") == Comparison((A, B, C), ("<", "<="))
    assert expression("a = b <> c > n") == Comparison((A, B, C, N), ("=", "<>", ">"))
    assert expression("(a < b) < c") == Binary("<", Binary("<", A, B), C)


def test_literals_of_different_types_differ() -> None:
    assert expression("1") != expression("1.0")
    assert expression("true") != expression("1")
    assert expression("'1'") != expression("1")


def test_equality_ignores_places() -> None:
    first, second = expression("[a.x + 1]"), expression("  [ a . x+1 ]")
    assert first == second
    assert hash(first) == hash(second)
    assert first.position != second.position


def test_subqueries_that_are_more_than_patterns_stay_queries() -> None:
    tree = expression("EXISTS { MATCH (a) WITH a, count(*) AS c WHERE c > 1 RETURN a }")
    assert isinstance(tree, ExistsSubquery)
    assert len(tree.query.parts[0].clauses) == 3
    for text in (
        "MATCH (a) RETURN a",  # a may be undefined, which analysis has to see
        "MATCH (a) RETURN 1 LIMIT 0",
        "MATCH (a) RETURN DISTINCT 1",
        "OPTIONAL MATCH (a)",
        "MATCH (a) MATCH (b)",
        "MATCH (a) RETURN 1 UNION MATCH (b) RETURN 1",
        "UNWIND [1] AS x RETURN x",
    ):
        assert isinstance(expression(f"COUNT {{ {text} }}"), CountSubquery), text


def test_long_chains_of_and_are_shallow_and_keep_their_order() -> None:
    terms = 10_000
    tree = expression(" AND ".join(f"x{number}" for number in range(terms)))
    level, leaves = 0, [tree]
    while any(isinstance(each, Binary) for each in leaves):
        level += 1
        leaves = [
            part
            for each in leaves
            for part in ((each.left, each.right) if isinstance(each, Binary) else (each,))
        ]
    assert leaves == [var(f"x{number}") for number in range(terms)]
    assert level <= 15


NAMES = [
    ("n", "n"),
    ("`n m`", "n m"),
    ("(n)", "(n)"),
    ("n.x", "n.x"),
    ("  n . x  ", "n . x"),
    ("n.x AS y", "y"),
    ("n.x AS `y z`", "y z"),
    ("n AS order", "order"),
    ("count( * )", "count( * )"),
    ("'a' + \"b\"", "'a' + \"b\""),
    ("1 /* one */ + 2 // two\n", "1 /* one */ + 2"),
    ("CASE\n WHEN true THEN 1 END", "CASE\n WHEN true THEN 1 END"),
    ("$p", "$p"),
    ("-1", "-1"),
]


@pytest.mark.parametrize(("text", "name"), NAMES)
def test_names_of_columns(text: str, name: str) -> None:
    clause = clauses(f"RETURN {text}, 1 AS last")[0]
    assert isinstance(clause, Return)
    assert clause.projection.items[0].name == name
    assert clause.projection.items[0].aliased == (" AS " in text)


def test_literal_keeps_its_type() -> None:
    for text, kind in (("1", int), ("1.0", float), ("true", bool), ("'1'", str)):
        tree = expression(text)
        assert isinstance(tree, Literal)
        assert type(tree.value) is kind
