"""What the parser refuses: message, place, and the name of the error; and the limits."""

import sys

import pytest

from graph.cypher.parser import parse
from graph.cypher.parser_base import DEPTH_MAX
from graph.cypher.parser_expressions import height
from graph.errors import CypherSyntaxError


def error_of(text: str) -> CypherSyntaxError:
    with pytest.raises(CypherSyntaxError) as caught:
        parse(text)
    return caught.value


# Each text has a marker where the error is; the second column begins the message.
ERRORS = [
    ("¶", "Unexpected end of input: expected a clause such as MATCH"),
    ("¶RETRN 1", "Invalid input 'RETRN': expected a clause such as MATCH"),
    ("RETURN¶", "Unexpected end of input: expected an expression"),
    ("RETURN 1 +¶", "Unexpected end of input: expected an expression"),
    ("RETURN 1, ¶", "Unexpected end of input: expected an expression"),
    ("RETURN ¶, 1", "Invalid input ',': expected an expression"),
    ("RETURN 1 ¶2", "Invalid input '2': expected an operator, ',', ORDER BY"),
    ("RETURN 1 AS ¶2", "Invalid input '2': expected an alias"),
    ("RETURN (1 ¶", "Unexpected end of input: expected an operator or ')'"),
    ("RETURN [1 ¶}", "Invalid input '}': expected ',' or ']'"),
    ("RETURN [¶, ]", "Invalid input ',': expected an expression"),
    ("RETURN {¶, }", "Invalid input ',': expected a property key"),
    ("RETURN {a¶ 1}", "Invalid input '1': expected ':'"),
    ("RETURN {a: 1¶", "Unexpected end of input: expected ',' or '}'"),
    ("RETURN {¶'a': 1}", "Invalid input ''a'': expected a property key"),
    ("RETURN f(1¶ 2)", "Invalid input '2': expected ',' or ')'"),
    ("RETURN a¶.1", "Invalid input '.1': expected an operator"),
    ("RETURN a[1¶", "Unexpected end of input: expected '..' or ']'"),
    ("RETURN a[¶]", "Invalid input ']': expected an expression"),
    ("RETURN [x IN a WHERE¶]", "Invalid input ']': expected an expression"),
    ("RETURN [x IN a ¶x]", "Invalid input 'x': expected '|' or ']'"),
    ("RETURN [(a)-->(b) ¶c | 1]", "Invalid input 'c': expected WHERE or '|'"),
    ("RETURN all(x IN a¶)", "Invalid input ')': expected WHERE"),
    ("RETURN all¶", "Unexpected end of input: expected '('"),
    ("RETURN reduce(a = 1, x IN b¶)", "Invalid input ')': expected '|'"),
    ("RETURN CASE ¶END", "Invalid input 'END': expected an expression"),
    ("RETURN CASE a ¶END", "Invalid input 'END': expected WHEN"),
    ("RETURN CASE WHEN a THEN b¶", "Unexpected end of input: expected WHEN, ELSE or END"),
    ("RETURN CASE WHEN a THEN b ELSE c ¶1", "Invalid input '1': expected END"),
    ("RETURN a IS ¶1", "Invalid input '1': expected NULL"),
    ("RETURN a STARTS ¶b", "Invalid input 'b': expected WITH"),
    ("RETURN 1 = ¶NOT true", "Invalid input 'NOT': expected an expression"),
    ("RETURN ¶match", "Invalid input 'match': expected an expression"),
    ("RETURN ¶shortestPath((a)-[*]-(b))", "shortestPath(...) can only stand in MATCH"),
    ("RETURN exists(¶a)", "exists(...) takes a property or a pattern"),
    ("RETURN EXISTS { (a) ¶RETURN 1 }", "Invalid input 'RETURN': expected ',', WHERE or '}'"),
    ("MATCH ¶RETURN 1", "Invalid input 'RETURN': expected a node pattern '('"),
    ("MATCH (n ¶RETURN n", "Invalid input 'RETURN': expected ':', '{', a parameter or ')'"),
    ("MATCH (¶1)", "Invalid input '1': expected a variable, ':', '{', a parameter or ')'"),
    ("MATCH (n:¶)", "Invalid input ')': expected a label"),
    ("MATCH (n:A¶|B)", "Alternatives of labels are not supported"),
    ("MATCH (n ¶WHERE n.x)", "WHERE cannot stand in a pattern"),
    ("MATCH (¶match)", "Invalid input 'match': expected a variable"),
    ("MATCH (a)-¶(b)", "Invalid input '(': expected '-'"),
    ("MATCH (a)-[:R¶ 1]->(b)", "Invalid input '1': expected ':', '*', '{', a parameter or ']'"),
    ("MATCH (a)-[:¶]->(b)", "Invalid input ']': expected a relationship type"),
    ("MATCH (a)-[:R]-> ¶RETURN a", "Invalid input 'RETURN': expected a node pattern '('"),
    ("MATCH (a)-[:R¶..]->(b)", "A range of lengths needs an asterisk"),
    ("MATCH (a)-[*¶0x1]->(b)", "The number of hops must be a decimal integer"),
    ("MATCH (a)-[*¶9999999999]->(b)", "The number of hops must be a decimal integer"),
    ("MATCH (a)-[*bfs..3 ¶(e, n | true)]->(b)", "*bfs with a filter is not supported"),
    ("MATCH ¶p = (a)-[*bfs]->(b)-->(c)", "A shortest path must have exactly one"),
    ("MATCH ¶p = shortestPath((a))", "A shortest path must have exactly one"),
    ("MATCH ¶p = allShortestPaths((a)-[*]-()--(b))", "A shortest path must have exactly one"),
    ("OPTIONAL ¶RETURN 1", "Invalid input 'RETURN': expected MATCH"),
    ("MATCH (n) ¶x", "Invalid input 'x': expected an operator, a clause such as"),
    ("MATCH (n) RETURN n ¶MATCH (m) RETURN m", "RETURN can only be used at the end"),
    ("UNWIND [1] ¶RETURN 1", "Invalid input 'RETURN': expected an operator or AS"),
    ("RETURN 1 ORDER ¶1", "Invalid input '1': expected BY"),
    ("RETURN 1 LIMIT 1 ¶SKIP 1", "Invalid input 'SKIP': expected"),
    ("MERGE (a) ON ¶DELETE a", "Invalid input 'DELETE': expected CREATE or MATCH"),
    ("MERGE (a) ON CREATE ¶a.x = 1", "Invalid input 'a': expected SET"),
    ("SET ¶a[0] = 1", "SET takes n.key = value"),
    ("SET a.x ¶+= 1", "Invalid input '+=': expected '='"),
    ("SET ¶(a):B = 1", "SET takes n.key = value, n = map, n += map or n:Label; labels take a"),
    ("REMOVE ¶a", "REMOVE takes n.key or n:Label"),
    ("DETACH ¶a", "Invalid input 'a': expected DELETE"),
    ("CALL ¶{ RETURN 1 }", "CALL { ... } subqueries are not supported"),
    ("CALL p() YIELD ¶*  RETURN 1", "YIELD * can only be used where the procedure"),
    ("CALL p() YIELD ¶1", "Invalid input '1': expected a column"),
    ("¶FOREACH (x IN [1] | CREATE (n))", "FOREACH is not supported"),
    ("MATCH (n) ¶FOREACH (x IN [1] | SET n.x = x)", "FOREACH is not supported"),
    ("¶LOAD CSV FROM 'x' AS line RETURN 1", "LOAD CSV is not supported"),
    ("RETURN 1; ¶RETURN 2", "Several statements in one text"),
    ("RETURN 1 UNION ¶", "Unexpected end of input: expected a clause"),
    ("RETURN 1¶)", "Invalid input ')': expected an operator"),
    ("CREATE ¶TEXT INDEX FOR (n:L) ON (n.a)", "Only RANGE indexes are supported"),
    ("CREATE INDEX foo ¶ON (n.a)", "Invalid input 'ON': expected FOR"),
    ("CREATE INDEX ¶1", "Invalid input '1': expected FOR or ON"),
    ("CREATE INDEX FOR ¶(n) ON (n.a)", "Expected (n:Label) or ()-[r:TYPE]-()"),
    ("CREATE INDEX FOR ¶(n:A:B) ON (n.a)", "Expected (n:Label) or ()-[r:TYPE]-()"),
    ("CREATE INDEX FOR ¶(n:A {x: 1}) ON (n.a)", "Expected (n:Label) or ()-[r:TYPE]-()"),
    ("CREATE INDEX FOR ¶(a)-[r:T]-() ON (r.a)", "Expected (n:Label) or ()-[r:TYPE]-()"),
    ("CREATE INDEX FOR ¶()-[r:T*]-() ON (r.a)", "Expected (n:Label) or ()-[r:TYPE]-()"),
    ("CREATE INDEX FOR (n:L) ON (¶m.a)", "Expected a property of 'n'"),
    ("CREATE INDEX FOR (n:L) ON (n.a, n.¶a)", "A property key stands twice"),
    ("CREATE INDEX ON :L(p, ¶p)", "A property key stands twice"),
    ("CREATE INDEX ON :L(p) ¶WHERE", "Invalid input 'WHERE': expected the end of the command"),
    ("DROP ¶foo", "Invalid input 'foo': expected INDEX or CONSTRAINT"),
    ("DROP INDEX ¶1", "Invalid input '1': expected the name of an index"),
    ("DROP CONSTRAINT ¶1", "Invalid input '1': expected the name of a constraint"),
    ("CREATE CONSTRAINT c ¶(n:L)", "Invalid input '(': expected FOR or ON"),
    ("CREATE CONSTRAINT FOR (n:L) ¶n.p IS UNIQUE", "Invalid input 'n': expected REQUIRE"),
    ("CREATE CONSTRAINT ON (n:L) ASSERT n.p ¶IS NOT NULL", "Only uniqueness constraints"),
    ("CREATE CONSTRAINT ON (n:L) ASSERT ¶exists(n.p)", "Invalid input 'exists': expected a prop"),
    ("SHOW ¶USERS", "Invalid input 'USERS': expected RAFT INFO, STORAGE INFO"),
    ("SHOW ¶", "Unexpected end of input: expected RAFT INFO"),
    ("SHOW ¶RAFT", "Invalid input 'RAFT': expected RAFT INFO"),
]


@pytest.mark.parametrize(("marked", "message"), ERRORS)
def test_errors_show_the_place(marked: str, message: str) -> None:
    offset = marked.index("¶")
    text = marked.replace("¶", "")
    # A marker may stand before the blanks in front of the token.
    while offset < len(text) and text[offset] == " ":
        offset += 1
    error = error_of(text)
    first, line, caret = error.message.split("\n")
    assert first.startswith(message)
    assert first.endswith(f"(line 1, column {offset + 1} (offset: {offset}))")
    assert caret == " " * (offset + 1) + "^"
    assert line == f'"{text}"'


DETAILS = [
    ("RETURN", "UnexpectedSyntax"),
    ("RETURN 1 MATCH (n)", "InvalidClauseComposition"),
    ("MATCH (a)-[:R..]->(b)", "InvalidRelationshipPattern"),
    ("RETURN 1x", "InvalidNumberLiteral"),
    ("RETURN " + "(" * 300, "NestedTooDeeply"),
]


@pytest.mark.parametrize(("text", "detail"), DETAILS)
def test_details(text: str, detail: str) -> None:
    assert error_of(text).detail == detail
    assert error_of(text).code == "Neo.ClientError.Statement.SyntaxError"


def test_an_error_on_a_later_line() -> None:
    assert error_of("MATCH (n)\nWHERE n.x >\nRETURN n").message.split("\n") == [
        "Invalid input 'RETURN': expected an expression (line 3, column 1 (offset: 22))",
        '"RETURN n"',
        " ^",
    ]


def test_a_long_token_is_cut_in_the_message() -> None:
    assert len(error_of("RETURN 1 " + "x" * 100_000).message) < 500


# Constructs that nest: what opens a level, what closes it, and what stands in the middle.
NESTED = [
    ("(", ")", "1"),
    ("[", "]", "1"),
    ("{a: ", "}", "1"),
    ("f(", ")", "1"),
    ("x[", "]", "1"),
    ("x[1..", "]", "1"),
    ("-(", ")", "1"),
    ("NOT (", ")", "true"),
    ("n {a: ", "}", "1"),
    ("CASE WHEN ", " THEN 1 END", "true"),
    ("[x IN ", "]", "a"),
    ("[x IN a | ", "]", "x"),
    ("all(x IN a WHERE ", ")", "x"),
    ("reduce(a = 0, x IN b | ", ")", "x"),
    ("exists((a {x: ", "})-->())", "1"),
    ("[(a)-->(b) WHERE ", " | 1]", "true"),
    ("[(a {x: ", "})-->(b) | 1]", "1"),
    ("EXISTS { (a) WHERE ", " }", "true"),
    ("COUNT { MATCH (a) WITH a WHERE ", " RETURN a }", "true"),
    ("1 OR 1 XOR 1 AND 1 = 1 IN 1 + 1 * 1 ^ -(", ")", "1"),
]


def on_a_deep_stack(frames: int, text: str) -> object:
    return parse(text) if frames == 0 else on_a_deep_stack(frames - 1, text)


@pytest.mark.parametrize(("opens", "closes", "inside"), NESTED)
def test_nesting_has_a_limit(opens: str, closes: str, inside: str) -> None:
    def nested(levels: int) -> str:
        return f"RETURN {opens * levels}{inside}{closes * levels}"

    accepted = 0
    for levels in (10, 20, 40, 60, 90, 150, DEPTH_MAX - 1):
        try:
            tree = parse(nested(levels))
        except CypherSyntaxError as error:
            assert error.detail == "NestedTooDeeply"
            break
        accepted = levels
        assert height(tree) <= DEPTH_MAX
    assert accepted >= 10
    for levels in (DEPTH_MAX + 1, 2_000):
        error = error_of(nested(levels))
        assert error.detail == "NestedTooDeeply"
        # Counted, and not found out by an overflow of the stack.
        assert f"the limit is {DEPTH_MAX} levels" in error.message
    # What is accepted is accepted by a caller deep in its own stack as well.
    assert sys.getrecursionlimit() >= 1000
    on_a_deep_stack(200, nested(accepted))


CHAINS = [
    ("1", " + 1"),
    ("1", " - 1"),
    ("2", " ^ 1"),
    ("a", " IN a"),
    ("a", " STARTS WITH a"),
    ("a", " IS NULL"),
    ("a", ".a"),
    ("a", "[0]"),
]


@pytest.mark.parametrize(("first", "link"), CHAINS)
def test_chains_have_a_limit(first: str, link: str) -> None:
    assert height(parse("RETURN " + first + link * (DEPTH_MAX - 2))) <= DEPTH_MAX
    for links in (DEPTH_MAX + 1, 10_000):
        assert error_of("RETURN " + first + link * links).detail == "NestedTooDeeply"


@pytest.mark.parametrize("prefix", ["NOT ", "- ", "+ ", "-+"])
def test_prefixes_have_a_limit(prefix: str) -> None:
    parse("RETURN " + prefix * 50 + "a")
    assert error_of("RETURN " + prefix * 10_000 + "a").detail == "NestedTooDeeply"


def test_nesting_and_chains_together_have_the_same_limit() -> None:
    # 90 levels of nesting with 90 links each are legal by either count alone.
    text = "(" * 90 + "1" + (" + 1" * 90 + ")") * 90
    error = error_of(f"RETURN {text}")
    assert error.detail == "NestedTooDeeply"
    assert error_of(f"MATCH (a) SET ({text}).x = 1").detail == "NestedTooDeeply"
    # Chains side by side are no deeper than one.
    parse("RETURN " + ", ".join(["1" + " + 1" * 90] * 50))
    parse("RETURN [" + ", ".join(["1" + " + 1" * 90] * 50) + "]")


def test_wide_is_not_deep() -> None:
    wide = 5_000
    parse("RETURN [" + "1, " * wide + "1]")
    parse("RETURN " + " OR ".join(["a.x = 1"] * wide))
    parse("RETURN 1" + " < 1" * wide)
    parse("RETURN a" + ":A" * wide)
    parse("MATCH (a)" + "-->()" * wide + " RETURN a")
    parse("MATCH (a) " * wide + "RETURN a")
    parse("RETURN 1" + " UNION RETURN 1" * wide)


def test_a_caller_without_stack_gets_an_error_of_ours() -> None:
    def fill(left: int) -> None:
        if left:
            fill(left - 1)
        else:
            parse("RETURN " + "[" * 100 + "]" * 100)

    with pytest.raises(CypherSyntaxError, match="nested too deeply"):
        fill(sys.getrecursionlimit() - 200)
