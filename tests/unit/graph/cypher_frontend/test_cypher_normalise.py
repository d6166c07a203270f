"""Lifting literals: what is lifted, what stays, and that the meaning is the same."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.cypher.analysis import analyse
from graph.cypher.lexer import TEXT_CHARS_MAX
from graph.cypher.normalise import normalise
from graph.cypher.parser import parse
from graph.cypher.syntax import Literal, Parameter, Unary
from graph.errors import CypherError

LIFTED = [
    ("MATCH (n {id: 5}) RETURN n", "MATCH (n {id: $ 0}) RETURN n", [5]),
    ("CREATE ({a: 1, b: 'x', c: 1.5})", "CREATE ({a: $ 0, b: $ 1, c: $ 2})", [1, "x", 1.5]),
    ("MATCH (n) WHERE n.x>18 RETURN n", "MATCH (n) WHERE n.x>$ 0 RETURN n", [18]),
    ("MATCH (n) WHERE n.x = -1 RETURN n", "MATCH (n) WHERE n.x = -$ 0 RETURN n", [1]),
    ("MATCH (n) WHERE n.x IN [1,2] RETURN n", "MATCH (n) WHERE n.x IN [$ 0,$ 1] RETURN n", [1, 2]),
    ("match (n) where n.x = 'it\\'s' return n", "match (n) where n.x = $ 0 return n", ["it's"]),
    ("CREATE (n {x: 0xFF, y: 1e3})", "CREATE (n {x: $ 0, y: $ 1})", [255, 1000.0]),
    ("CREATE ()-[:R {x: 1}]->()", "CREATE ()-[:R {x: $ 0}]->()", [1]),
    (
        "MERGE (n {x: 1}) ON CREATE SET n.y = 2 ON MATCH SET n.y = 3",
        "MERGE (n {x: $ 0}) ON CREATE SET n.y = $ 1 ON MATCH SET n.y = $ 2",
        [1, 2, 3],
    ),
    ("MATCH (n) SET n.x = 'a', n += {y: 1}", "MATCH (n) SET n.x = $ 0, n += {y: $ 1}", ["a", 1]),
    ("UNWIND range(1, 9) AS x RETURN x", "UNWIND range($ 0, $ 1) AS x RETURN x", [1, 9]),
    ("RETURN 1 SKIP 2 LIMIT 3", "RETURN 1 SKIP $ 0 LIMIT $ 1", [2, 3]),
    ("WITH 1 AS x WHERE x = 1 RETURN x", "WITH 1 AS x WHERE x = $ 0 RETURN x", [1]),
    (
        "WITH DISTINCT 1 AS x WHERE x = 1 MATCH (n) WHERE n.x = 1 RETURN x",
        "WITH DISTINCT 1 AS x WHERE x = 1 MATCH (n) WHERE n.x = $ 0 RETURN x",
        [1],
    ),
    (
        "WITH DISTINCT 1 AS x MATCH (n) WHERE n.x = 1 RETURN x",
        "WITH DISTINCT 1 AS x MATCH (n) WHERE n.x = $ 0 RETURN x",
        [1],
    ),
    ("MATCH (n) WHERE n.l[0] = 1 RETURN n", "MATCH (n) WHERE n.l[$ 0] = $ 1 RETURN n", [0, 1]),
    (
        "MATCH (n) WHERE n.name STARTS WITH 'a' AND n.x = 1 RETURN n",
        "MATCH (n) WHERE n.name STARTS WITH $ 0 AND n.x = $ 1 RETURN n",
        ["a", 1],
    ),
    (
        "MATCH (n) WHERE n.return = 1 AND n:With AND n.x = 2 RETURN n",
        "MATCH (n) WHERE n.return = $ 0 AND n:With AND n.x = $ 1 RETURN n",
        [1, 2],
    ),
    (
        "MATCH (n {return: 1, x: 2}) RETURN n",
        "MATCH (n {return: $ 0, x: $ 1}) RETURN n",
        [1, 2],
    ),
    (
        "MATCH /* 1 */ (n {x: 2}) // 3\nRETURN n",
        "MATCH /* 1 */ (n {x: $ 0}) // 3\nRETURN n",
        [2],
    ),
    ("EXPLAIN MATCH (n {x: 1}) RETURN n", "EXPLAIN MATCH (n {x: $ 0}) RETURN n", [1]),
    (
        "MATCH (n {x: 1}) RETURN n.x + 1 UNION MATCH (n {x: 2}) RETURN n.x + 1",
        "MATCH (n {x: $ 0}) RETURN n.x + 1 UNION MATCH (n {x: $ 1}) RETURN n.x + 1",
        [1, 2],
    ),
    ("CREATE (n {x: '\u00e9', y: \"\\u00e9\"})", "CREATE (n {x: $ 0, y: $ 1})", ["é", "é"]),
]


@pytest.mark.parametrize(("text", "key", "values"), LIFTED)
def test_lifted(text: str, key: str, values: list[Any]) -> None:
    found, literals = normalise(text)
    types = "".join(type(value).__name__[0] for value in values)
    assert found == f"{key}\n//{types}"
    assert list(literals) == [f" {number}" for number in range(len(values))]
    assert [(type(v), v) for v in literals.values()] == [(type(v), v) for v in values]


KEPT = [
    "RETURN 1",
    "RETURN 1 AS a, 'b' AS c, 2 + 3",
    "RETURN 1 AS limit, 2 AS skip, 3",
    "MATCH (n) WITH n.x + 1 AS y RETURN y ORDER BY y + 1, 'a'",
    "MATCH (n) RETURN n {.x, where: 1, y: [x IN [1] WHERE x = 1 | x]}",
    "MATCH (n) RETURN COUNT { MATCH (m) WHERE m.x = 1 }",
    "RETURN CASE WHEN true THEN 1 ELSE 2 END",
    "RETURN 1 STARTS WITH 'a', 2",
    "RETURN 1 LIMIT -1",
    "RETURN 1 LIMIT 1.5",
    "RETURN 1 SKIP 'a'",
    "MATCH ()-[*2]->() RETURN 1",
    "MATCH ()-[*1..3]->() RETURN 1",
    "MATCH ()-[* 1 .. 3]->() RETURN 1",
    "MATCH ()-[*/* of */1/* to */../* as */3]->() RETURN 1",
    "MATCH ()-[:R*..3]->() RETURN 1",
    "MATCH ()-[r:R*2..]->() RETURN 1",
    "MATCH (n) WHERE (n)-[*1..2]->() RETURN n",
    "MATCH (n) WHERE n.x = $a AND n.y = $0 AND n.z = $`a b` RETURN n",
    "MATCH (n) WITH DISTINCT n.x + 1 AS y WHERE n.x + 1 = 3 RETURN y",
    "MATCH (n) WITH n.x + 1 AS y, count(*) AS c ORDER BY y WHERE n.x + 1 = 3 RETURN y",
    "MATCH (n1:A2 {x3: true}) WHERE `n 4`.x5 IS NULL RETURN n1",
    "CALL p(1, 'a')",
    "CALL p(1, 'a') YIELD x RETURN x",
    "DELETE 1 + 1",
    "MATCH (n) DELETE n.list[0]",
    "CREATE INDEX i FOR (n:L) ON (n.a)",
    "CREATE CONSTRAINT ON (n:L) ASSERT n.a IS UNIQUE",
    "SHOW INDEXES YIELD name RETURN name + 1",
    "",
]


@pytest.mark.parametrize("text", KEPT)
def test_kept(text: str) -> None:
    assert normalise(text) == (text, {})


UNREADABLE = [
    "MATCH (n {x: 1}) WHERE n.y = 'open",
    "MATCH (n {x: 1}) # RETURN n",
    "MATCH (n {x: 1}) /* RETURN n",
    "MATCH (n {x: 1}) WHERE n.y = $ 0 RETURN n",
    "MATCH (n {x: 1}" + " " * TEXT_CHARS_MAX,
]


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_cannot_be_read_comes_back(text: str) -> None:
    assert normalise(text) == (text, {})


def test_bad_literals_stay_for_the_parser_to_show() -> None:
    for bad in ("9223372036854775808", "1e400", "12abc", "'\\q'", "0x8000000000000000"):
        key, literals = normalise(f"MATCH (n {{x: 1, y: {bad}}}) RETURN n")
        assert bad in key
        assert literals == {" 0": 1}
        with pytest.raises(CypherError):
            parse(key)
    key, literals = normalise("CREATE (n {x: -9223372036854775808, y: 9223372036854775807})")
    assert "-9223372036854775808" in key
    assert list(literals.values()) == [2**63 - 1]
    parse(key)


def test_queries_that_differ_in_literals_share_a_key() -> None:
    texts = [f"MATCH (n:User {{id: {n}}}) WHERE n.name = 'u{n}' RETURN n" for n in range(3)]
    assert len({normalise(text)[0] for text in texts}) == 1
    # Columns would have the wrong names, so these do not.
    assert normalise("RETURN 1")[0] != normalise("RETURN 2")[0]
    # Nor do these, for one of the two may be refused and the other not.
    assert normalise("MATCH (n {x: 1})")[0] != normalise("MATCH (n {x: 'a'})")[0]
    # A boolean changes what a query means too often to be worth a parameter.
    assert normalise("CREATE ({x: true})")[0] != normalise("CREATE ({x: false})")[0]


def test_a_client_cannot_write_the_name_of_a_lifted_literal() -> None:
    with pytest.raises(CypherError, match="cannot begin with a space"):
        parse("RETURN $` 0`")
    assert normalise("MATCH (n {x: 5, y: $ 0}) RETURN n")[1] == {}


# ------------------------------------------------------------------ the meaning stays


def with_literals(tree: Any, literals: dict[str, Any]) -> Any:
    """The tree with lifted parameters put back, as the parser would have read them."""
    if isinstance(tree, Parameter) and tree.name in literals:
        return Literal(literals[tree.name])
    if isinstance(tree, tuple):
        return tuple(with_literals(each, literals) for each in tree)
    if not dataclasses.is_dataclass(tree) or isinstance(tree, type):
        return tree
    names = [field.name for field in dataclasses.fields(tree)]
    copy = type(tree)(**{name: with_literals(getattr(tree, name), literals) for name in names})
    if isinstance(copy, Unary) and copy.operator == "-" and isinstance(copy.operand, Literal):
        value = copy.operand.value
        if type(value) in (int, float) and value >= 0:
            return Literal(-value)
    return copy


def assert_same_meaning(text: str) -> None:
    key, literals = normalise(text)
    try:
        expected = analyse(parse(text), text)
    except CypherError as error:
        with pytest.raises(CypherError) as caught:
            analyse(parse(key), key, literals=literals)
        assert caught.value.detail == error.detail
        return
    found = analyse(parse(key), key, literals=literals)
    assert with_literals(found.statement, literals) == expected.statement
    assert found.columns == expected.columns
    assert found.access is expected.access
    assert found.parameters - expected.parameters == set(literals)


@pytest.mark.parametrize("text", [row[0] for row in LIFTED] + [t for t in KEPT if t])
def test_meaning(text: str) -> None:
    assert_same_meaning(text)


numbers = st.one_of(
    st.integers(0, 2**63 - 1).map(str),
    st.floats(0, 1e300).map(repr),
    st.integers(0, 255).map(hex),
)
strings = st.text(st.characters(codec="utf-8", exclude_characters="\\'"), max_size=8).map(
    lambda text: f"'{text}'"
)
atoms = st.one_of(numbers, strings, st.sampled_from(["n.x", "n", "$p", "null", "true", "-1", "[]"]))
expressions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["=", "<", "IN", "+", "STARTS WITH"]), inner).map(
            lambda parts: f"({' '.join(parts)})"
        ),
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        inner.map(lambda value: f"{{limit: {value}, y: 1}}"),
        inner.map(lambda value: f"[x IN [1] WHERE x = {value} | x]"),
        inner.map(lambda value: f"CASE WHEN n.x = {value} THEN 1 ELSE 'a' END"),
    ),
    max_leaves=6,
)
templates = st.sampled_from(
    [
        "MATCH (n {{x: {0}}}) RETURN {1}",
        "MATCH (n) WHERE n.x = {0} RETURN n.x AS return, {1} ORDER BY {1}",
        "MATCH (n) WITH n, {0} AS y WHERE n.y = {1} RETURN y LIMIT 3",
        "MATCH (n) WITH DISTINCT {0} AS y WHERE {0} = {1} RETURN y LIMIT 3",
        "MATCH (n) WITH {0} AS y, count(*) AS c ORDER BY {0} WHERE {0} = {1} RETURN y",
        "MATCH (n) SET n.x = {0}, n.limit = {1} RETURN n, 1",
        "MATCH (n)-[*1..2]->() WHERE n.x = {0} RETURN DISTINCT {1} SKIP 1",
        "UNWIND [{0}, {1}] AS n CREATE (m {{x: {0}}}) RETURN m, 5",
        "MATCH (n) MERGE (m {{x: {0}}}) ON MATCH SET m.y = {1} RETURN {0} AS a",
    ]
)


@settings(max_examples=150, deadline=None)
@given(templates, expressions, expressions)
def test_meaning_of_any_query(template: str, first: str, second: str) -> None:
    assert_same_meaning(template.format(first, second))
