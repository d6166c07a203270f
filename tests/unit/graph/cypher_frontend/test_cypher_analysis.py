"""What analysis refuses and accepts, by table; and what it tells of a statement."""

import pytest
from frontend_support import refused

from graph.cypher.analysis import Access, Analysed, ProcedureSignature, analyse
from graph.cypher.analysis_kinds import common, list_of, shown
from graph.cypher.parser import parse
from graph.errors import CypherSemanticError

FUNCTIONS = frozenset({"abs", "coalesce", "head", "labels", "rand", "size", "tointeger", "tolower"})

PROCEDURES = {
    "db.labels": ProcedureSignature("db.labels", (), (("label", "string"),)),
    "my.add": ProcedureSignature(
        "my.add", (("x", "integer"), ("y", "float")), (("sum", "float"), ("n", "node"))
    ),
    "my.write": ProcedureSignature("my.write", (("name", "string"),), (), writes=True),
}


def check(text: str) -> Analysed:
    return analyse(parse(text), text, procedures=PROCEDURES)


REFUSED = [
    # variables
    ("RETURN a", "UndefinedVariable"),
    ("MATCH (n) RETURN m", "UndefinedVariable"),
    ("MATCH (n) WHERE m.x RETURN n", "UndefinedVariable"),
    ("MATCH (n {x: m.x}) RETURN n", "UndefinedVariable"),
    ("MATCH (n) WITH n.x AS x RETURN n", "UndefinedVariable"),
    ("MATCH (n) WITH n AS m WHERE k RETURN m", "UndefinedVariable"),
    ("UNWIND x AS x RETURN x", "UndefinedVariable"),
    ("CREATE (a {x: b.x})", "UndefinedVariable"),
    ("CREATE (a {x: a.x})", "UndefinedVariable"),
    ("CREATE (a)-[r:R {x: r.x}]->()", "UndefinedVariable"),
    ("MERGE (a {x: a.x})", "UndefinedVariable"),
    ("MERGE (a) ON CREATE SET b.x = 1", "UndefinedVariable"),
    ("MATCH (a) SET b.x = 1", "UndefinedVariable"),
    ("MATCH (a) SET a.x = b", "UndefinedVariable"),
    ("MATCH (a) SET b = {}", "UndefinedVariable"),
    ("MATCH (a) SET b:B", "UndefinedVariable"),
    ("MATCH (a) REMOVE b:B", "UndefinedVariable"),
    ("MATCH (a) REMOVE b.x", "UndefinedVariable"),
    ("DELETE a", "UndefinedVariable"),
    ("RETURN [x IN [1] | y]", "UndefinedVariable"),
    ("RETURN [x IN [1] | x] + x", "UndefinedVariable"),
    ("RETURN [x IN x | x]", "UndefinedVariable"),
    ("RETURN all(x IN [1] WHERE y)", "UndefinedVariable"),
    ("RETURN reduce(a = a, x IN [1] | a)", "UndefinedVariable"),
    ("MATCH (n) RETURN n {.x, m}", "UndefinedVariable"),
    ("MATCH (n) WHERE (n)-->(m) RETURN n", "UndefinedVariable"),
    ("MATCH (n) WHERE exists((n)-[r]->()) RETURN n", "UndefinedVariable"),
    ("MATCH (n) WHERE EXISTS { (n)-->(m) } RETURN m", "UndefinedVariable"),
    ("MATCH (n) RETURN [(n)-->(m) | k]", "UndefinedVariable"),
    ("MATCH (n) RETURN n UNION MATCH (m) RETURN n", "UndefinedVariable"),
    ("MATCH (n) RETURN COUNT { MATCH (m) RETURN k }", "UndefinedVariable"),
    # binding
    ("MATCH (n) UNWIND [1] AS n RETURN n", "VariableAlreadyBound"),
    ("MATCH p = (p)-->() RETURN p", "VariableAlreadyBound"),
    ("MATCH p = () MATCH p = () RETURN p", "VariableAlreadyBound"),
    ("CREATE (a) CREATE (a)", "VariableAlreadyBound"),
    ("CREATE (a), (a)", "VariableAlreadyBound"),
    ("MATCH (a) CREATE (a:A)-[:R]->()", "VariableAlreadyBound"),
    ("MATCH (a) CREATE (a {})-[:R]->()", "VariableAlreadyBound"),
    ("CREATE (a)-[r:R]->()<-[r:R]-(a)", "VariableAlreadyBound"),
    ("MATCH (a) MERGE (a)", "VariableAlreadyBound"),
    ("MATCH ()-[r]->() MERGE ()-[r:R]->()", "VariableAlreadyBound"),
    ("MATCH (p) CREATE p = ()", "VariableAlreadyBound"),
    # kinds of pattern variables
    ("MATCH (a)-[a]->() RETURN a", "VariableTypeConflict"),
    ("MATCH ()-[r]->() MATCH (r) RETURN r", "VariableTypeConflict"),
    ("MATCH ()-[r]->() MATCH ()-[r*]->() RETURN r", "VariableTypeConflict"),
    ("MATCH ()-[r*]->() MATCH ()-[r]->() RETURN r", "VariableTypeConflict"),
    ("MATCH p = () MATCH (p) RETURN p", "VariableTypeConflict"),
    ("WITH 1 AS n MATCH (n) RETURN n", "VariableTypeConflict"),
    ("WITH [1] AS n CREATE (n)-[:R]->()", "VariableTypeConflict"),
    ("MATCH ()-[r]->() CREATE (r)-[:R]->()", "VariableTypeConflict"),
    ("MATCH ()-[r]->() WHERE (r)-->() RETURN r", "VariableTypeConflict"),
    ("MATCH ()-[r]->()-[r]->() RETURN r", "RelationshipUniquenessViolation"),
    ("MATCH ()-[r]->(), ()-[r]->() RETURN r", "RelationshipUniquenessViolation"),
    # what CREATE and MERGE make
    ("CREATE ()-->()", "NoSingleRelationshipType"),
    ("CREATE ()-[:R|S]->()", "NoSingleRelationshipType"),
    ("MERGE ()-->()", "NoSingleRelationshipType"),
    ("CREATE ()-[:R]-()", "RequiresDirectedRelationship"),
    ("CREATE ()<-[:R]->()", "RequiresDirectedRelationship"),
    ("CREATE ()-[:R*2]->()", "CreatingVarLength"),
    ("MERGE ()-[:R*]->()", "CreatingVarLength"),
    ("CREATE shortestPath((a)-[:R]->(b))", "InvalidClauseComposition"),
    ("MATCH (n $p) RETURN n", "InvalidParameterUse"),
    ("MATCH ()-[r:R $p]->() RETURN r", "InvalidParameterUse"),
    ("MERGE (n $p)", "InvalidParameterUse"),
    # columns
    ("RETURN 1 AS a, 2 AS a", "ColumnNameConflict"),
    ("MATCH (n) RETURN n.x, n.x", "ColumnNameConflict"),
    ("MATCH (n) WITH *, 1 AS n RETURN n", "ColumnNameConflict"),
    ("MATCH (n) WITH n.x RETURN 1", "NoExpressionAlias"),
    ("RETURN *", "NoVariablesInScope"),
    ("MATCH () RETURN *", "NoVariablesInScope"),
    ("RETURN 1 AS a UNION RETURN 1 AS b", "DifferentColumnsInUnion"),
    ("RETURN 1 AS a UNION RETURN 1 AS a, 2 AS b", "DifferentColumnsInUnion"),
    ("RETURN 1 AS a UNION CREATE ()", "DifferentColumnsInUnion"),
    # composition
    ("RETURN 1 AS a UNION RETURN 1 AS a UNION ALL RETURN 1 AS a", "InvalidClauseComposition"),
    ("MATCH (n)", "InvalidClauseComposition"),
    ("UNWIND [1] AS x", "InvalidClauseComposition"),
    ("WITH 1 AS x", "InvalidClauseComposition"),
    ("CREATE (n) MATCH (m) RETURN m", "InvalidClauseComposition"),
    ("CREATE (n) SET n.x = 1 UNWIND [1] AS x RETURN x", "InvalidClauseComposition"),
    ("MATCH (n) CALL db.labels() YIELD label", "InvalidClauseComposition"),
    ("MATCH (n) WHERE EXISTS { MATCH (m) SET m.x = 1 } RETURN n", "InvalidClauseComposition"),
    # aggregation
    ("MATCH (n) WHERE count(n) > 1 RETURN n", "InvalidAggregation"),
    ("MATCH (n {x: count(*)}) RETURN n", "InvalidAggregation"),
    ("UNWIND collect(1) AS x RETURN x", "InvalidAggregation"),
    ("CREATE ({x: count(*)})", "InvalidAggregation"),
    ("MATCH (n) SET n.x = max(n.y)", "InvalidAggregation"),
    ("MATCH (n) DELETE head(collect(n))", "InvalidAggregation"),
    ("RETURN [x IN [1] | count(x)]", "InvalidAggregation"),
    ("RETURN [x IN [1] WHERE count(*) > 1]", "InvalidAggregation"),
    ("RETURN any(x IN [1] WHERE count(*) > 1)", "InvalidAggregation"),
    ("RETURN reduce(a = 0, x IN [1] | a + count(*))", "InvalidAggregation"),
    ("MATCH (n) RETURN [(n)-->(m) | count(m)]", "InvalidAggregation"),
    ("MATCH (n) RETURN COUNT { (n)-->(m) WHERE count(m) > 1 }", "InvalidAggregation"),
    ("RETURN 1 LIMIT count(*)", "InvalidAggregation"),
    ("MATCH (n) RETURN n ORDER BY count(*)", "InvalidAggregation"),
    ("MATCH (n) RETURN DISTINCT n ORDER BY count(*)", "InvalidAggregation"),
    ("MATCH (n) RETURN n, sum(n.x) AS s ORDER BY max(s)", "InvalidAggregation"),
    ("RETURN count(count(*))", "NestedAggregation"),
    ("MATCH (n) RETURN sum(1 + max(n.x))", "NestedAggregation"),
    ("RETURN count(rand())", "NonConstantExpression"),
    ("MATCH (n) RETURN n.x + count(*)", "AmbiguousAggregationExpression"),
    ("MATCH (n) RETURN {x: n.x, c: count(*)}", "AmbiguousAggregationExpression"),
    ("MATCH (n) RETURN n.x + 1, n.x + 1 + count(*)", "AmbiguousAggregationExpression"),
    ("MATCH (n) RETURN [x IN collect(n) | x.y + n.z]", "AmbiguousAggregationExpression"),
    ("MATCH (n) RETURN count(*) + size([(n)-->(m) | m])", "AmbiguousAggregationExpression"),
    ("MATCH (n) RETURN [n IN n.list] + collect(1)", "AmbiguousAggregationExpression"),
    (
        "MATCH (n) WITH n.x + 1 AS y, count(*) AS c ORDER BY n.x + 1 + count(*) RETURN y",
        "AmbiguousAggregationExpression",
    ),
    ("MATCH (n) RETURN count(*) AS c ORDER BY size([(n)-->(m) | m])", "UndefinedVariable"),
    ("MATCH (n) RETURN DISTINCT n.x AS x ORDER BY [n IN n.l | n]", "UndefinedVariable"),
    # what ORDER BY and WHERE see
    ("MATCH (n) RETURN DISTINCT n.x AS x ORDER BY n.y", "UndefinedVariable"),
    ("MATCH (n) RETURN count(*) AS c ORDER BY n.x", "UndefinedVariable"),
    ("MATCH (n) RETURN n.x AS x, count(*) AS c ORDER BY max(n.y)", "UndefinedVariable"),
    ("MATCH (n) WITH n.x AS x, count(*) AS c WHERE n.y > 1 RETURN x", "UndefinedVariable"),
    ("MATCH (n) WITH DISTINCT n.x AS x WHERE n.y = 1 RETURN x", "UndefinedVariable"),
    ("MATCH (n) RETURN n.x ORDER BY m", "UndefinedVariable"),
    # SKIP and LIMIT
    ("MATCH (n) RETURN n SKIP n.x", "NonConstantExpression"),
    ("MATCH (n) RETURN n LIMIT size([x IN [1] | n])", "NonConstantExpression"),
    ("RETURN 1 SKIP -1", "NegativeIntegerArgument"),
    ("RETURN 1 LIMIT -1", "NegativeIntegerArgument"),
    ("RETURN 1 LIMIT 1.0", "InvalidArgumentType"),
    ("RETURN 1 LIMIT 'a'", "InvalidArgumentType"),
    ("RETURN 1 LIMIT true", "InvalidArgumentType"),
    ("RETURN 1 LIMIT null", "InvalidArgumentType"),
    # types that can never be right
    ("RETURN 1 AND true", "InvalidArgumentType"),
    ("RETURN NOT 'a'", "InvalidArgumentType"),
    ("RETURN [] OR true", "InvalidArgumentType"),
    ("RETURN true XOR {}", "InvalidArgumentType"),
    ("MATCH (n) WHERE n RETURN n", "InvalidArgumentType"),
    ("MATCH (n) WHERE 1 RETURN n", "InvalidArgumentType"),
    ("RETURN 1 IN 2", "InvalidArgumentType"),
    ("RETURN 1 IN {}", "InvalidArgumentType"),
    ("RETURN 'a' * 2", "InvalidArgumentType"),
    ("RETURN true - 1", "InvalidArgumentType"),
    ("RETURN [1] % 2", "InvalidArgumentType"),
    ("RETURN -'a'", "InvalidArgumentType"),
    ("RETURN any(x IN ['a'] WHERE x % 2 = 0)", "InvalidArgumentType"),
    ("WITH 1 AS x RETURN x.y", "InvalidArgumentType"),
    ("WITH [1] AS x RETURN x.y", "InvalidArgumentType"),
    ("MATCH p = () RETURN p.x", "InvalidArgumentType"),
    ("WITH 1 AS x RETURN x[0]", "InvalidArgumentType"),
    ("WITH 1 AS x RETURN x[0..1]", "InvalidArgumentType"),
    ("RETURN [x IN 1 | x]", "InvalidArgumentType"),
    ("WITH 1 AS x RETURN x {.y}", "InvalidArgumentType"),
    ("WITH 1 AS x RETURN x:A", "InvalidArgumentType"),
    ("MATCH p = () RETURN labels(p)", "InvalidArgumentType"),
    ("MATCH (n) RETURN type(n)", "InvalidArgumentType"),
    ("MATCH (n) RETURN length(n)", "InvalidArgumentType"),
    ("MATCH p = () RETURN size(p)", "InvalidArgumentType"),
    ("MATCH ()-[r*]->() RETURN type(r)", "InvalidArgumentType"),
    ("MATCH ()-[r*]->() RETURN type(r[0].x.y), labels(r[0])", "InvalidArgumentType"),
    ("MATCH p = () RETURN type(head(nodes(p)))", "InvalidArgumentType"),
    ("MATCH (n) WITH collect(n) AS l UNWIND l AS m RETURN type(m)", "InvalidArgumentType"),
    ("DELETE 1 + 1", "InvalidArgumentType"),
    ("MATCH (n) WITH collect(n) AS l DELETE l", "InvalidArgumentType"),
    ("MATCH (n) DELETE n:A", "InvalidDelete"),
    ("WITH 1 AS x SET x.y = 1", "InvalidArgumentType"),
    ("MATCH p = () SET p = {}", "InvalidArgumentType"),
    ("MATCH (n) SET n = 1", "InvalidArgumentType"),
    ("MATCH ()-[r]->() SET r:A", "InvalidArgumentType"),
    ("MATCH ()-[r]->() REMOVE r:A", "InvalidArgumentType"),
    ("WITH 1 AS x REMOVE x.y", "InvalidArgumentType"),
    # patterns where no predicate is expected
    ("MATCH (n) RETURN (n)-->()", "UnexpectedSyntax"),
    ("MATCH (n) RETURN size((n)-->())", "UnexpectedSyntax"),
    ("MATCH (n) RETURN (n)-->() = true", "UnexpectedSyntax"),
    ("MATCH (n) SET n.x = (n)-->()", "UnexpectedSyntax"),
    ("RETURN abs(DISTINCT 1)", "UnexpectedSyntax"),
    # calls
    ("RETURN count()", "InvalidNumberOfArguments"),
    ("RETURN labels(1, 2)", "InvalidNumberOfArguments"),
    ("MATCH (n) RETURN percentileDisc(n.x)", "InvalidNumberOfArguments"),
    ("CALL nothing()", "ProcedureNotFound"),
    ("CALL my.add(1)", "InvalidNumberOfArguments"),
    ("CALL my.add('a', 1)", "InvalidArgumentType"),
    ("CALL my.add YIELD sum RETURN sum", "InvalidArgumentPassingMode"),
    ("CALL my.add(1, 2) YIELD product RETURN product", "UndefinedVariable"),
    ("CALL my.add(1, 2) YIELD sum, n AS sum RETURN sum", "VariableAlreadyBound"),
    ("WITH 1 AS label CALL db.labels() YIELD label RETURN label", "VariableAlreadyBound"),
    ("CALL db.labels() RETURN label", "UndefinedVariable"),
    ("CALL my.add(1, 2) YIELD n RETURN type(n)", "InvalidArgumentType"),
    # SHOW
    ("SHOW INDEXES YIELD name WHERE type RETURN name", "UndefinedVariable"),
    ("SHOW INDEXES YIELD name, name", "VariableAlreadyBound"),
]


@pytest.mark.parametrize(("text", "detail"), REFUSED)
def test_refused(text: str, detail: str) -> None:
    error = refused(text, procedures=PROCEDURES)
    assert isinstance(error, CypherSemanticError)
    assert error.detail == detail, error.message


ACCEPTED = [
    "MATCH (n) RETURN n",
    "MATCH (a {x: b.x}), (b) RETURN a",
    "MATCH (a) MATCH (a)-->(b) MATCH (b)-->(a) RETURN *",
    "MATCH (a)-[r]->(a) MATCH (a)-[r]->(b) RETURN r",
    "MATCH ()-[r*]->() MATCH ()-[r*]->() RETURN r",
    "MATCH ()-[r]->() WITH [r] AS rs MATCH ()-[rs*]->() RETURN rs",
    "OPTIONAL MATCH (a) WITH a MATCH (a)-->(b) RETURN b",
    "WITH null AS a OPTIONAL MATCH (a)-->(b) RETURN b",
    "UNWIND $ids AS n MATCH (n) RETURN n",
    "WITH $p AS r MATCH ()-[r]->() RETURN r",
    "UNWIND 1 AS x RETURN x",
    "UNWIND null AS x RETURN x.y",
    "CREATE (a)-[:R]->(a)",
    "MATCH (a) CREATE (a)-[r:R]->(b), (b)-[:S]->(a) RETURN r",
    "CREATE (a {x: 1}), (b {x: a.x})",
    "CREATE (a $p)",
    "CREATE () WITH * CREATE ()",
    "CREATE (a) WITH a MATCH (b) RETURN b",
    "MATCH (a) MERGE (a)-[:R]-(b) ON CREATE SET b.x = a.x, b:B ON MATCH SET b += {x: 1}",
    "MERGE p = (a)-[:R]->() RETURN p",
    "MATCH (a) DELETE a RETURN a",
    "MATCH (a) SET a = $p, a += a, a.x = null REMOVE a.x, a:B",
    "MATCH (a) WITH {n: a} AS m DELETE m.n",
    "MATCH (a) WITH [a] AS l DELETE l[0]",
    "MATCH p = () DELETE p",
    "MATCH ()-[r]->() SET r.x = 1 REMOVE r.x",
    # projections
    "MATCH (n) WITH n, n.x AS x RETURN *",
    "MATCH (n) RETURN n.x AS x ORDER BY n.y, x",
    "MATCH (n) WITH n.x AS x WHERE n.y = x RETURN x",
    "MATCH (n) RETURN DISTINCT n ORDER BY n.x",
    "MATCH (n) RETURN DISTINCT n.x ORDER BY n.x",
    "MATCH (n) RETURN DISTINCT n.x AS x ORDER BY x + 1, n.x + 1",
    "MATCH (n) WITH DISTINCT n.x AS x WHERE n.x = 1 RETURN x",
    "MATCH (n) WITH n.x AS x, count(*) AS c WHERE c > 1 AND n.x = 2 RETURN x",
    "MATCH (n) RETURN n.x, count(*) ORDER BY count(*)",
    "MATCH (n) RETURN n.x AS x, count(*) AS c ORDER BY x + c, n.x + count(*)",
    "MATCH (n) RETURN n.x + 1, count(*) ORDER BY n.x + 1",
    "MATCH (n) RETURN n, n.x + count(*), count(*) + 1",
    "MATCH (n) RETURN n.x, n.x + count(*)",
    "MATCH (n) RETURN n.x.y, n.x.y + count(*)",
    "MATCH (n) WITH *, count(*) + n.x AS c RETURN c",
    "MATCH (n) RETURN count(*) + $p + 1",
    "MATCH (n) RETURN n.x AS x, count(*) AS c ORDER BY [n IN [x] | n], size([(a)-->(b) | a])",
    "MATCH (n) RETURN [x IN collect(n) | x.y]",
    "MATCH (n) RETURN [x IN collect(n) WHERE x.y | [y IN [x] | y.z + x.z]]",
    "MATCH (n) RETURN reduce(a = 0, x IN collect(n.x) | a + x)",
    "MATCH (n) RETURN size(collect(n)[0..1])",
    "MATCH (n) RETURN n, count(*) + COUNT { (n)-->(m) WHERE m.x = n.x }",
    "MATCH (n) RETURN count(DISTINCT n), collect(n {.x})",
    "RETURN 1 SKIP $s LIMIT toInteger(rand() * 3)",
    "RETURN 1 SKIP 1 + 1 LIMIT size([1])",
    "RETURN 1 AS a, 2 AS b UNION RETURN 3 AS b, 4 AS a",
    "CREATE (a) UNION CREATE (b)",
    # expressions
    "RETURN null AND null, NOT null, null IN null, null + 1, null.x, null[0]",
    "RETURN $a AND $b, $a.x[1].y, -$a, $a % 2, $a IN $b",
    "RETURN 1 + 'a', [1] + 2, 1 + [2], 'a' + 1, 1.5 % 2, date().year",
    "RETURN 1 = 'a', 1 < 'a', [] = {}, 1 < 2.0 < 'x', 1 STARTS WITH 2",
    "RETURN [x IN [] | x.y], [x IN null | x], [x IN [1, 'a'] WHERE x | x]",
    "RETURN all(x IN [true] WHERE x), CASE 1 WHEN 'a' THEN 1 ELSE 'b' END.x",
    "RETURN [1, 2][0], {a: 1}.a, {a: 1}['a'], [[1]][0][0], head([{a: 1}]).a",
    "WITH [1, null] AS l RETURN l[0] % 2",
    "MATCH (n) RETURN keys(n), keys({}), properties(n), id(n), n:A",
    "MATCH p = ()-[r*]->() RETURN nodes(p)[0].x, type(r[0]), length(p), startNode(r[0]):A",
    "MATCH (n) WHERE (n)-->() AND NOT (n)<--() OR exists((n)--()) RETURN n",
    "MATCH (n) RETURN exists((n)-->()), NOT (n)-->(), CASE WHEN (n)-->() THEN 1 END",
    "MATCH (n) WHERE EXISTS { (n)-[r]->(m) WHERE r.x = m.y } RETURN n",
    "MATCH (n) WHERE EXISTS { MATCH (m) WITH m, count(*) AS c WHERE c = n.x } RETURN n",
    "MATCH (n) RETURN [p = (n)-[r]->(m) WHERE r.x | [p, m.x, n]]",
    "MATCH (n) RETURN [n IN [1] | n], n.x",
    "MATCH (x) RETURN [x IN [x] | x.y]",
    # procedures
    "CALL db.labels",
    "CALL db.labels()",
    "CALL my.add(1, 2) YIELD sum AS total, n RETURN total, n.x",
    "CALL my.add(null, $p) YIELD sum RETURN sum",
    "MATCH (n) CALL my.write(n.x) RETURN n",
    "MATCH (n) CALL my.write(n.x)",
    "CALL db.labels() YIELD label WHERE label STARTS WITH 'a' RETURN count(*)",
    # others
    "EXPLAIN MATCH (n) RETURN n",
    "CREATE INDEX ON :A(x)",
    "SHOW RAFT INFO",
    "SHOW INDEXES YIELD name, type WHERE type = 'RANGE' RETURN name",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted(text: str) -> None:
    check(text)


def test_functions_that_do_not_exist() -> None:
    text = "MATCH (n) RETURN foo(n)"
    error = refused(text, functions=FUNCTIONS)
    assert error.detail == "UnknownFunction"
    assert error.message.startswith("Unknown function 'foo' (line 1, column 18 (offset: 17))")
    # Without a list of names any will do.
    check(text)
    # Aggregates and forms of the grammar are no names that a list must hold.
    for known in ("count(*)", "collect(1)", "toLower('a')", "any(x IN [1] WHERE x = 1)"):
        analyse(parse(f"RETURN {known}"), functions=FUNCTIONS)


def test_errors_show_the_place_when_the_text_is_given() -> None:
    text = "MATCH (n)\nRETURN n.x, m.x"
    assert refused(text).message.split("\n") == [
        "Variable `m` not defined (line 2, column 13 (offset: 22))",
        '"RETURN n.x, m.x"',
        "             ^",
    ]
    with pytest.raises(CypherSemanticError) as caught:
        analyse(parse(text))
    assert caught.value.message == "Variable `m` not defined"


CODES = [
    ("WITH 1 AS x RETURN x.y", "Neo.ClientError.Statement.TypeError"),
    ("RETURN 1 AND true", "Neo.ClientError.Statement.SyntaxError"),
    ("CALL nothing()", "Neo.ClientError.Procedure.ProcedureNotFound"),
    ("RETURN a", "Neo.ClientError.Statement.SyntaxError"),
]


@pytest.mark.parametrize(("text", "code"), CODES)
def test_codes(text: str, code: str) -> None:
    assert refused(text, procedures=PROCEDURES).code == code


COLUMNS = [
    ("RETURN 1 AS b, 2 AS a", ("b", "a")),
    ("MATCH (b)-[r]->(a) RETURN *", ("a", "b", "r")),
    ("MATCH (b)-->(a) RETURN *, 1 AS `0`", ("a", "b", "0")),
    ("MATCH (n) RETURN n.x + 1, count(*)", ("n.x + 1", "count(*)")),
    ("RETURN 1 AS b UNION RETURN 2 AS b", ("b",)),
    ("CREATE (n)", ()),
    ("CREATE (n) RETURN n.x", ("n.x",)),
    ("CALL db.labels", ("label",)),
    ("CALL my.add(1, 2)", ("sum", "n")),
    ("CALL my.add(1, 2) YIELD n AS m, sum", ("m", "sum")),
    ("CALL my.add(1, 2) YIELD *", ("sum", "n")),
    ("CALL my.add(1, 2) YIELD sum RETURN sum AS s", ("s",)),
    ("CALL my.write('a')", ()),
    ("MATCH (n) WHERE EXISTS { MATCH (m) RETURN m } RETURN n", ("n",)),
    ("SHOW RAFT INFO", ()),
    ("SHOW INDEXES YIELD name AS n, type", ("n", "type")),
    ("SHOW INDEXES YIELD name, type RETURN type AS t", ("t",)),
    ("DROP INDEX foo", ()),
]


@pytest.mark.parametrize(("text", "columns"), COLUMNS)
def test_columns(text: str, columns: tuple[str, ...]) -> None:
    assert check(text).columns == columns


ACCESS = [
    ("MATCH (n) RETURN n", Access.READ),
    ("RETURN 1 AS a UNION RETURN 1 AS a", Access.READ),
    ("CALL db.labels", Access.READ),
    ("CREATE (n)", Access.WRITE),
    ("MATCH (n) SET n.x = 1 RETURN n", Access.WRITE),
    ("MATCH (n) REMOVE n.x", Access.WRITE),
    ("MATCH (n) DETACH DELETE n", Access.WRITE),
    ("MERGE (n)", Access.WRITE),
    ("RETURN 1 AS a UNION CREATE (n) RETURN 1 AS a", Access.WRITE),
    ("CALL my.write('a')", Access.WRITE),
    ("CREATE INDEX ON :A(x)", Access.SCHEMA),
    ("DROP CONSTRAINT c", Access.SCHEMA),
    ("SHOW STORAGE INFO", Access.SHOW),
]


@pytest.mark.parametrize(("text", "access"), ACCESS)
def test_access(text: str, access: Access) -> None:
    assert check(text).access is access


PARAMETERS = [
    ("RETURN 1", set()),
    ("MATCH (n {x: $a}) WHERE n.y = $b SET n += $c RETURN n.x + $d", set("abcd")),
    ("RETURN 1 SKIP $a LIMIT $b", set("ab")),
    ("CREATE (n $a)-[:R {x: $b}]->()", set("ab")),
    ("RETURN [x IN $a WHERE x = $b | $c], COUNT { (n) WHERE n.x = $d }", set("abcd")),
    ("MATCH (n) RETURN n ORDER BY n.x + $a", {"a"}),
    ("MATCH (n) RETURN n.x, count(*) ORDER BY count(*) + $a", {"a"}),
    ("CALL my.add", {"x", "y"}),
    ("CALL my.add($a, 1)", {"a"}),
    ("RETURN $ 0 + $`b c` + $1", {" 0", "b c", "1"}),
    ("MERGE (n) ON CREATE SET n.x = $a ON MATCH SET n.x = $b", set("ab")),
]


@pytest.mark.parametrize(("text", "names"), PARAMETERS)
def test_parameters(text: str, names: set[str]) -> None:
    assert check(text).parameters == names


def test_a_statement_can_be_analysed_again() -> None:
    statement = parse("MATCH (n) WITH n AS m RETURN m")
    assert analyse(statement) == analyse(statement)
    assert analyse(statement).statement is statement


def test_kinds() -> None:
    assert common("null", "node") == "node"
    assert common("node", "path") == "any"
    assert common(list_of("null"), list_of("node")) == list_of("node")
    assert common(list_of("integer"), list_of("string")) == list_of("any")
    assert shown(list_of(list_of("node"))) == "List<List<Node>>"


def test_copying_of_scopes_has_a_limit() -> None:
    # Quadratic in the length of the text, so it has to end before the text does.
    text = "WITH 1 AS a0 " + " ".join(f"WITH *, 1 AS a{n}" for n in range(1, 4000)) + " RETURN 1"
    assert refused(text).detail == "QueryTooComplex"
    many = ", ".join(f"(a{n})" for n in range(3000))
    text = f"MATCH {many} RETURN " + " + ".join(["COUNT { (b) }"] * 150)
    check(text)
    text = f"MATCH {many} RETURN [" + ", ".join(["COUNT { (b) }"] * 3000) + "] AS c"
    assert refused(text).detail == "QueryTooComplex"
