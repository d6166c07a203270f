"""Whatever the text is, the front end answers with a tree or with a CypherError."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from graph.cypher.analysis import Analysed, analyse
from graph.cypher.normalise import normalise
from graph.cypher.parser import parse
from graph.errors import CypherError, CypherSemanticError, CypherSyntaxError

KEYWORDS = """
    ALL AND ANY AS ASC ASSERT BY CALL CASE CONSTRAINT CONTAINS COUNT CREATE DELETE DESC DETACH
    DISTINCT DROP ELSE END ENDS EXISTS EXPLAIN EXTRACT FALSE FILTER FOR IF IN INDEX INFO IS LIMIT
    MATCH MERGE NODE NONE NOT NULL ON OPTIONAL OR ORDER RAFT RANGE REDUCE REMOVE REQUIRE RETURN SET
    SHORTESTPATH ALLSHORTESTPATHS SHOW SINGLE SKIP STARTS THEN TRUE UNION UNIQUE UNWIND WHEN WHERE
    WITH XOR YIELD FOREACH LOAD bfs
"""
SYMBOLS = "( ) [ ] { } - > < -> <- --> <-- , . .. : ; | & + * / % ^ = <> != <= >= =~ += $"
OTHERS = "a b n r x f(a) n.x n:A (n) (n)-->(m) -[r:R*1..3]-> $p $0 1 2.5 0x1F 1e9 'a' \"b\" `c d`"
OTHERS += " count(*) /*c*/ // [x 9223372036854775808 1abc ' ` # é —"

words = st.sampled_from((KEYWORDS + SYMBOLS + " " + OTHERS).split())
soup = st.lists(words, max_size=30).map(" ".join)
clauses = st.sampled_from(
    [
        "MATCH (n)",
        "OPTIONAL MATCH (n)-[r:R]->(m {x: n.x})",
        "MATCH p = (a)-[*1..2]-(b)",
        "WITH n, count(*) AS c ORDER BY c DESC LIMIT 3 WHERE c > 1",
        "WITH *",
        "WITH DISTINCT n.x AS x ORDER BY n.x",
        "UNWIND [1, 'a', null] AS x",
        "CREATE (n)-[:R]->(m)",
        "MERGE (n {x: 1}) ON CREATE SET n.y = 2",
        "SET n.x = x, n:A, m += {}",
        "REMOVE n.x, m:B",
        "DETACH DELETE n, p",
        "CALL p(1) YIELD a AS x",
        "RETURN *",
        "RETURN n, sum(x) AS s ORDER BY s + max(x)",
        "RETURN [x IN nodes(p) WHERE x.y | x {.*}], EXISTS { (n)-->(k) WHERE k.x = x }",
        "RETURN any(y IN [1] WHERE y % 2 = 0), reduce(a = 0, b IN x | a + b) LIMIT 1",
        "UNION",
        "UNION ALL",
    ]
)
queries = st.lists(clauses, min_size=1, max_size=6).map(" ".join)


def answer(text: str, literals: dict[str, Any] | None = None) -> Analysed | CypherError:
    try:
        statement = parse(text)
    except CypherError as error:
        assert type(error) is CypherSyntaxError
        assert error.detail
        assert "(line " in error.message
        return error
    try:
        return analyse(statement, text, literals=literals)
    except CypherError as error:
        assert type(error) is CypherSemanticError
        assert error.detail
        return error


def check(text: str) -> None:
    found = answer(text)
    key, literals = normalise(text)
    again = answer(key, literals)
    # With literals lifted a text is right or wrong as before.
    assert isinstance(found, CypherError) == isinstance(again, CypherError), (text, key)
    if isinstance(found, CypherError):
        assert isinstance(again, CypherError)
        assert found.detail == again.detail
    else:
        assert isinstance(again, Analysed)
        assert again.columns == found.columns
        assert again.parameters == found.parameters | set(literals)


@settings(max_examples=300, deadline=None)
@given(soup)
@example("MATCH (n) WHERE n.x = 5 5 RETURN n")
@example("UNWIND [5 .. 6] AS x RETURN x")
def test_soup_of_tokens(text: str) -> None:
    answer(text)
    key, _ = normalise(text)
    answer(key)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text(text: str) -> None:
    answer(text)
    answer("RETURN " + text)
    answer("MATCH (n) WHERE " + text)
    normalise("MATCH (n) WHERE " + text)


@settings(max_examples=300, deadline=None)
@given(queries)
def test_clauses_in_any_order(text: str) -> None:
    check(text)


@settings(max_examples=300, deadline=None)
@given(queries, st.data())
def test_queries_with_a_token_changed(text: str, data: st.DataObject) -> None:
    tokens = text.split()
    place = data.draw(st.integers(0, len(tokens)))
    match data.draw(st.sampled_from(["insert", "delete", "replace"])):
        case "insert":
            tokens.insert(place, data.draw(words))
        case "delete":
            del tokens[place : place + 1]
        case _:
            tokens[place : place + 1] = [data.draw(words)]
    changed = " ".join(tokens)
    answer(changed)
    answer(normalise(changed)[0])
