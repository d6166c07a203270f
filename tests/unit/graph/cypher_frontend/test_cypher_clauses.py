"""Trees of patterns, clauses and statements, by table."""

import pytest
from frontend_support import clauses, lit, node, param, path, prop, rel, var

from graph.cypher.parser import parse
from graph.cypher.syntax import (
    CallProcedure,
    Clause,
    Create,
    Delete,
    Direction,
    HasLabels,
    Index,
    MapLiteral,
    Match,
    Merge,
    Mode,
    PathPattern,
    Projection,
    ProjectionItem,
    Property,
    Query,
    Remove,
    RemoveLabels,
    RemoveProperty,
    Return,
    SchemaCommand,
    Set,
    SetLabels,
    SetProperties,
    SetProperty,
    ShowCommand,
    SortItem,
    Unwind,
    With,
)

A, B, N = var("a"), var("b"), var("n")
ONE, TWO = lit(1), lit(2)
OUT, IN, BOTH = Direction.OUT, Direction.IN, Direction.BOTH
X1 = MapLiteral((("x", ONE),))
a, b, c = node("a"), node("b"), node("c")

PATTERNS: list[tuple[str, PathPattern]] = [
    ("()", path(node())),
    ("(a)", path(a)),
    ("(:A)", path(node(None, ("A",)))),
    ("(a:A:B)", path(node("a", ("A", "B")))),
    ("(a:A&B)", path(node("a", ("A", "B")))),
    ("(a:A:A)", path(node("a", ("A",)))),
    ("(:Match:`b c`)", path(node(None, ("Match", "b c")))),
    ("(count)", path(node("count"))),
    ("(a {x: 1})", path(node("a", (), X1))),
    ("({})", path(node(None, (), MapLiteral(())))),
    ("(a:A $p)", path(node("a", ("A",), param("p")))),
    ("(a)-->(b)", path(a, rel(), b)),
    ("(a)<--(b)", path(a, rel(direction=IN), b)),
    ("(a)--(b)", path(a, rel(direction=BOTH), b)),
    ("(a)<-->(b)", path(a, rel(direction=BOTH), b)),
    ("(a)-[]->(b)", path(a, rel(), b)),
    ("(a)<-[r]-(b)", path(a, rel("r", direction=IN), b)),
    ("(a)<-[r]->(b)", path(a, rel("r", direction=BOTH), b)),
    ("(a) - [r] - (b)", path(a, rel("r", direction=BOTH), b)),
    ("(a)-[:R]->(b)", path(a, rel(None, ("R",)), b)),
    ("(a)-[r:R|S|:T]->(b)", path(a, rel("r", ("R", "S", "T")), b)),
    ("(a)-[:IN]->(b)", path(a, rel(None, ("IN",)), b)),
    ("(a)-[*]->(b)", path(a, rel(hops=(None, None)), b)),
    ("(a)-[*2]->(b)", path(a, rel(hops=(2, 2)), b)),
    ("(a)-[*1..3]->(b)", path(a, rel(hops=(1, 3)), b)),
    ("(a)-[*..3]->(b)", path(a, rel(hops=(None, 3)), b)),
    ("(a)-[*1..]->(b)", path(a, rel(hops=(1, None)), b)),
    ("(a)-[*..]->(b)", path(a, rel(hops=(None, None)), b)),
    ("(a)-[*0..0]->(b)", path(a, rel(hops=(0, 0)), b)),
    ("(a)-[r:R*2..3 {x: 1}]->(b)", path(a, rel("r", ("R",), OUT, X1, (2, 3)), b)),
    ("(a)-[r $p]->(b)", path(a, rel("r", properties=param("p")), b)),
    ("(a)-->(b)<--(c)", path(a, rel(), b, rel(direction=IN), c)),
    ("p = (a)-->(b)", path(a, rel(), b, variable="p")),
    ("shortestPath((a)-[*]->(b))", path(a, rel(hops=(None, None)), b, shortest="one")),
    (
        "p = allShortestPaths((a)-[:R*..9]-(b))",
        path(a, rel(None, ("R",), BOTH, None, (None, 9)), b, variable="p", shortest="all"),
    ),
    ("p = (a)-[*bfs..15]->(b)", path(a, rel(hops=(None, 15)), b, variable="p", shortest="one")),
    ("(a)-[:R *BFS]->(b)", path(a, rel(None, ("R",), hops=(None, None)), b, shortest="one")),
]


@pytest.mark.parametrize(("text", "tree"), PATTERNS)
def test_patterns(text: str, tree: PathPattern) -> None:
    assert clauses(f"MATCH {text} RETURN 1")[0] == Match((tree,), None, False)


def items(*names: str) -> tuple[ProjectionItem, ...]:
    return tuple(ProjectionItem(var(name), name, False) for name in names)


def projection(*names: str, star: bool = False, distinct: bool = False) -> Projection:
    return Projection(items(*names), star, distinct, (), None, None)


CLAUSES: list[tuple[str, Clause]] = [
    ("MATCH (a), (b)", Match((path(a), path(b)), None, False)),
    ("MATCH (a) WHERE a.x", Match((path(a),), prop("a", "x"), False)),
    ("OPTIONAL MATCH (a) WHERE a.x", Match((path(a),), prop("a", "x"), True)),
    ("UNWIND $list AS a", Unwind(param("list"), "a")),
    ("UNWIND $list AS match", Unwind(param("list"), "match")),
    ("WITH a, b", With(projection("a", "b"), None)),
    ("WITH *", With(projection(star=True), None)),
    ("WITH *, a", With(projection("a", star=True), None)),
    ("WITH DISTINCT a WHERE a.x", With(projection("a", distinct=True), prop("a", "x"))),
    ("RETURN a", Return(projection("a"))),
    ("RETURN DISTINCT *", Return(projection(star=True, distinct=True))),
    (
        "RETURN a AS b, 1 AS c",
        Return(
            Projection(
                (ProjectionItem(A, "b", True), ProjectionItem(ONE, "c", True)),
                *(False, False, (), None, None),
            )
        ),
    ),
    (
        "RETURN a ORDER BY a, b ASC, n ASCENDING, a.x DESC, b.x DESCENDING SKIP 1 LIMIT $l",
        Return(
            Projection(
                *(items("a"), False, False),
                (
                    SortItem(A, False),
                    SortItem(B, False),
                    SortItem(N, False),
                    SortItem(prop("a", "x"), True),
                    SortItem(prop("b", "x"), True),
                ),
                *(ONE, param("l")),
            )
        ),
    ),
    ("RETURN a LIMIT 1", Return(Projection(items("a"), False, False, (), None, ONE))),
    ("CREATE (a), (b)", Create((path(a), path(b)))),
    ("MERGE (a)", Merge(path(a), (), ())),
    (
        "MERGE (a) ON CREATE SET a.x = 1 ON MATCH SET a.x = 2, a:B ON CREATE SET a:C",
        Merge(
            path(a),
            (SetProperty(A, "x", ONE), SetLabels("a", ("C",))),
            (SetProperty(A, "x", TWO), SetLabels("a", ("B",))),
        ),
    ),
    ("SET a.x = 1", Set((SetProperty(A, "x", ONE),))),
    ("SET a.x.y = 1", Set((SetProperty(prop("a", "x"), "y", ONE),))),
    ("SET (a).x = 1", Set((SetProperty(A, "x", ONE),))),
    ("SET $list[0].x = 1", Set((SetProperty(Index(param("list"), lit(0)), "x", ONE),))),
    ("SET a = {x: 1}", Set((SetProperties("a", X1, False),))),
    ("SET a += $p", Set((SetProperties("a", param("p"), True),))),
    ("SET a:A:B, b.x = 1", Set((SetLabels("a", ("A", "B")), SetProperty(B, "x", ONE)))),
    ("REMOVE a.x", Remove((RemoveProperty(A, "x"),))),
    ("REMOVE a:A:B, b.x", Remove((RemoveLabels("a", ("A", "B")), RemoveProperty(B, "x")))),
    ("DELETE a, b.x", Delete((A, Property(B, "x")), False)),
    ("DETACH DELETE a", Delete((A,), True)),
    ("DELETE a:B", Delete((HasLabels(A, ("B",)),), False)),  # analysis refuses it
    ("CALL db.labels", CallProcedure("db.labels", None, None, None)),
    ("CALL db.labels()", CallProcedure("db.labels", (), None, None)),
    ("CALL p(1, a) YIELD x", CallProcedure("p", (ONE, A), (("x", "x"),), None)),
    (
        "CALL p() YIELD x AS a, b WHERE a",
        CallProcedure("p", (), (("x", "a"), ("b", "b")), A),
    ),
    ("CALL p() YIELD -", CallProcedure("p", (), (), None)),
    ("CALL p() YIELD *", CallProcedure("p", (), None, None)),
]


@pytest.mark.parametrize(("text", "tree"), CLAUSES)
def test_clauses(text: str, tree: Clause) -> None:
    assert clauses(text) == (tree,)


def test_modes_and_semicolons() -> None:
    plain = parse("RETURN 1 AS a")
    assert isinstance(plain, Query)
    assert plain.mode is Mode.RUN
    assert parse("RETURN 1 AS a;") == plain
    assert parse(" RETURN 1 AS a ; ; // done") == plain
    explained = parse("EXPLAIN RETURN 1 AS a")
    assert isinstance(explained, Query)
    assert (explained.mode, explained.parts) == (Mode.EXPLAIN, plain.parts)
    profiled = parse("profile RETURN 1 AS a")
    assert isinstance(profiled, Query)
    assert profiled.mode is Mode.PROFILE


def test_union() -> None:
    query = parse("RETURN 1 AS a UNION RETURN 2 AS a UNION ALL MATCH (a) RETURN a")
    assert isinstance(query, Query)
    assert [len(part.clauses) for part in query.parts] == [1, 1, 2]
    assert query.union_all == (False, True)


def test_clauses_keep_their_order_and_places() -> None:
    text = "MATCH (a) WITH a\nCREATE (b) SET b.x = 1"
    found = clauses(text)
    assert [type(clause) for clause in found] == [Match, With, Create, Set]
    assert [text[clause.position :].split()[0] for clause in found] == [
        "MATCH",
        "WITH",
        "CREATE",
        "SET",
    ]


def command(
    action: str,
    target: str,
    kind: str,
    name: str | None,
    label: str | None,
    *properties: str,
    entity: str = "node",
    if_exists: bool = False,
) -> SchemaCommand:
    return SchemaCommand(action, target, kind, name, label, properties, entity, if_exists)


SCHEMA = [
    (
        "CREATE INDEX foo FOR (n:L) ON (n.a)",
        command("create", "index", "range", "foo", "L", "a"),
    ),
    (
        "CREATE RANGE INDEX foo IF NOT EXISTS FOR (n:L) ON (n.a, n.b)",
        command("create", "index", "range", "foo", "L", "a", "b", if_exists=True),
    ),
    ("CREATE INDEX FOR (n:L) ON (n.a)", command("create", "index", "range", None, "L", "a")),
    (
        "CREATE INDEX IF NOT EXISTS FOR ()-[r:T]-() ON (r.p)",
        command(
            *("create", "index", "range", None, "T", "p"), entity="relationship", if_exists=True
        ),
    ),
    (
        "CREATE INDEX FOR ()-[r:T]->() ON (r.p)",
        command("create", "index", "range", None, "T", "p", entity="relationship"),
    ),
    ("CREATE INDEX ON :L", command("create", "index", "label", None, "L")),
    ("CREATE INDEX ON :L(p, q);", command("create", "index", "range", None, "L", "p", "q")),
    ("DROP INDEX foo", command("drop", "index", "range", "foo", None)),
    ("DROP INDEX foo IF EXISTS", command("drop", "index", "range", "foo", None, if_exists=True)),
    ("DROP INDEX ON :L", command("drop", "index", "label", None, "L")),
    ("DROP INDEX ON :L(p)", command("drop", "index", "range", None, "L", "p")),
    (
        "CREATE CONSTRAINT c IF NOT EXISTS FOR (n:L) REQUIRE n.p IS UNIQUE",
        command("create", "constraint", "unique", "c", "L", "p", if_exists=True),
    ),
    (
        "create constraint for (n:L) require (n.a, n.b) is node unique",
        command("create", "constraint", "unique", None, "L", "a", "b"),
    ),
    (
        "CREATE CONSTRAINT ON (n:L) ASSERT n.p IS UNIQUE",
        command("create", "constraint", "unique", None, "L", "p"),
    ),
    (
        "CREATE CONSTRAINT ON (n:L) ASSERT n.a, n.b IS UNIQUE",
        command("create", "constraint", "unique", None, "L", "a", "b"),
    ),
    (
        "CREATE CONSTRAINT FOR ()-[r:T]-() REQUIRE r.p IS UNIQUE",
        command("create", "constraint", "unique", None, "T", "p", entity="relationship"),
    ),
    ("DROP CONSTRAINT c", command("drop", "constraint", "unique", "c", None)),
    (
        "DROP CONSTRAINT c IF EXISTS",
        command("drop", "constraint", "unique", "c", None, if_exists=True),
    ),
    (
        "DROP CONSTRAINT ON (n:L) ASSERT n.p IS UNIQUE",
        command("drop", "constraint", "unique", None, "L", "p"),
    ),
]


@pytest.mark.parametrize(("text", "tree"), SCHEMA)
def test_schema_commands(text: str, tree: SchemaCommand) -> None:
    assert parse(text) == tree


SHOWN = [
    ("SHOW RAFT INFO", "raft info"),
    ("show storage info;", "storage info"),
    ("SHOW INDEX INFO", "index info"),
    ("SHOW CONSTRAINT INFO", "constraint info"),
    ("SHOW INDEXES", "indexes"),
    ("SHOW INDEX", "indexes"),
    ("SHOW CONSTRAINTS", "constraints"),
    ("SHOW  DATABASES", "databases"),
]


@pytest.mark.parametrize(("text", "what"), SHOWN)
def test_show_commands(text: str, what: str) -> None:
    assert parse(text) == ShowCommand(what)


def test_show_with_yield() -> None:
    found = parse("SHOW INDEXES YIELD name, type AS kind WHERE kind = 'RANGE' RETURN name")
    assert isinstance(found, ShowCommand)
    assert found.yields == (("name", "name"), ("type", "kind"))
    assert found.where is not None
    assert found.returns is not None
    assert parse("SHOW INDEXES YIELD *") == ShowCommand("indexes")


def test_a_schema_command_can_be_explained() -> None:
    found = parse("EXPLAIN DROP INDEX foo")
    assert isinstance(found, SchemaCommand)
    assert found.mode is Mode.EXPLAIN


def test_a_node_that_begins_create_is_no_schema_command() -> None:
    assert clauses("CREATE (index:Index)") == (Create((path(node("index", ("Index",))),)),)
    assert clauses("CREATE p = (a)") == (Create((path(a, variable="p"),)),)
    assert clauses("CREATE index = (a)") == (Create((path(a, variable="index"),)),)
