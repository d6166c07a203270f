"""Planning of patterns: which node to start from, in which order to expand.

A MATCH is turned into a *pattern graph* (nodes, edges and a bag of predicates, inline labels and
properties among them). It is then solved greedily: apply every predicate whose variables are
bound; else follow an edge whose two ends are bound; else the edge with the fewest expected rows
from a bound node; else begin the next component with its cheapest leaf. Greedy is not optimal,
but it is predictable, takes microseconds, and patterns that people write have few edges.

A component that does not depend on the rows so far is planned by itself and joined: by a hash
join if an equality links it to what is bound, by a product if not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from graph.cypher.plan import (
    AllNodesScan,
    Argument,
    AsEntity,
    BoundRelationship,
    BuildPath,
    Cartesian,
    Expand,
    Filter,
    HashJoin,
    NodeLabelScan,
    Plan,
    RelationshipScan,
    ShortestPath,
    VariableExpand,
)
from graph.cypher.planner_access import AccessPath, best_access, selectivity
from graph.cypher.planner_context import (
    PlannerContext,
    Scope,
    conjuncts,
    free_variables,
    has_pattern,
)
from graph.cypher.syntax import (
    Binary,
    Direction,
    Expression,
    HasLabels,
    MapLiteral,
    NodePattern,
    PathPattern,
    Property,
    RelationshipPattern,
    Variable,
)
from graph.errors import CypherSemanticError
from graph.vector import Kind

__all__ = ["PatternSolver", "flipped", "plan_pattern"]

_FLIPPED = {
    Direction.OUT: Direction.IN,
    Direction.IN: Direction.OUT,
    Direction.BOTH: Direction.BOTH,
}


def flipped(direction: Direction) -> Direction:
    return _FLIPPED[direction]


@dataclass
class Edge:
    """A relationship of the pattern graph. ``many``: variable length."""

    variable: str
    left: str
    right: str
    types: tuple[str, ...]
    direction: Direction
    hops: tuple[int | None, int | None] | None
    properties: tuple[tuple[str, Expression], ...]
    shortest: str | None = None
    path: str | None = None

    @property
    def many(self) -> bool:
        return self.hops is not None

    @property
    def minimum(self) -> int:
        if self.hops is None or self.hops[0] is None:
            return 1
        return self.hops[0]

    @property
    def maximum(self) -> int | None:
        return 1 if self.hops is None else self.hops[1]

    def overlaps(self, other: Edge) -> bool:
        """Whether one relationship could match both."""
        return not self.types or not other.types or bool(set(self.types) & set(other.types))


@dataclass
class Predicate:
    expression: Expression
    variables: frozenset[str]


@dataclass
class PatternGraph:
    nodes: list[str] = field(default_factory=list)
    labels: dict[str, set[str]] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    paths: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)
    predicates: list[Predicate] = field(default_factory=list)


class PatternSolver:
    """Plans one MATCH (or the pattern of an inner query) on top of a plan."""

    def __init__(
        self, context: PlannerContext, plan: Plan, scope: Scope, *, correlated: bool
    ) -> None:
        self.context = context
        self.plan = plan
        self.outer = scope
        self.scope: Scope = dict(scope)
        self.bound: set[str] = set(scope)
        self.correlated = correlated
        self.graph = PatternGraph()
        self.solved: list[Edge] = []

    # ----------------------------------------------------------------- building the graph

    def add(self, patterns: tuple[PathPattern, ...], where: Expression | None) -> None:
        for pattern in patterns:
            self._add_path(pattern)
        names = set(self.graph.nodes) | {e.variable for e in self.graph.edges} | self.bound
        names |= {path[0] for path in self.graph.paths}
        names |= {edge.path for edge in self.graph.edges if edge.path is not None}
        for expression in conjuncts(where):
            self._add_predicate(expression, names)

    def _add_predicate(self, expression: Expression, names: set[str]) -> None:
        free = free_variables(expression) & names
        self.graph.predicates.append(Predicate(expression, frozenset(free)))
        if isinstance(expression, HasLabels) and isinstance(expression.subject, Variable):
            known = self.graph.labels.setdefault(expression.subject.name, set())
            known.update(expression.labels)

    def _add_path(self, pattern: PathPattern) -> None:
        nodes = [self._add_node(node) for node in pattern.nodes]
        edges: list[str] = []
        for position, relationship in enumerate(pattern.relationships):
            edge = self._edge(relationship, nodes[position], nodes[position + 1])
            edge.shortest = pattern.shortest
            if pattern.shortest is not None:
                edge.path = pattern.variable
            self.graph.edges.append(edge)
            edges.append(edge.variable)
        if pattern.variable is not None and pattern.shortest is None:
            self.graph.paths.append((pattern.variable, tuple(nodes), tuple(edges)))

    def _add_node(self, node: NodePattern) -> str:
        name = node.variable or self.context.fresh("n")
        if name not in self.graph.nodes:
            self.graph.nodes.append(name)
        labels = self.graph.labels.setdefault(name, set())
        if node.labels:
            labels.update(node.labels)
            test = HasLabels(Variable(name), node.labels, position=node.position)
            self.graph.predicates.append(Predicate(test, frozenset((name,))))
        self._add_properties(name, node.properties)
        return name

    def _add_properties(self, name: str, properties: Expression | None) -> None:
        if properties is None:
            return
        if not isinstance(properties, MapLiteral):
            raise CypherSemanticError(
                "Parameter maps cannot be used in MATCH patterns (use a literal map instead,"
                ' e.g. "{id: $param.id}")',
                detail="InvalidParameterUse",
            )
        for key, value in properties.items:
            test = Binary("=", Property(Variable(name), key), value, position=value.position)
            self.graph.predicates.append(Predicate(test, free_variables(test)))

    def _edge(self, pattern: RelationshipPattern, left: str, right: str) -> Edge:
        name = pattern.variable or self.context.fresh("r")
        properties: tuple[tuple[str, Expression], ...] = ()
        if pattern.hops is None:
            self._add_properties(name, pattern.properties)
        elif isinstance(pattern.properties, MapLiteral):
            properties = pattern.properties.items
        return Edge(name, left, right, pattern.types, pattern.direction, pattern.hops, properties)

    # ----------------------------------------------------------------- solving

    def solve(self) -> tuple[Plan, Scope]:
        self._coerce_bound()
        while True:
            self._apply_predicates()
            edge = self._next_edge()
            if edge is not None:
                self._follow(edge)
                continue
            start = self._next_start()
            if start is None:
                break
            self._begin(start)
        assert not self.graph.edges and not self.graph.predicates, "unsolved pattern"
        return self.plan, self.scope

    def _coerce_bound(self) -> None:
        """Bound variables of unknown kind that the pattern uses become columns of ids."""
        nodes = [(name, Kind.NODE) for name in self.graph.nodes]
        edges = [(e.variable, Kind.RELATIONSHIP) for e in self.graph.edges if not e.many]
        for name, kind in nodes + edges:
            if name in self.outer and self.scope[name] is not kind:
                self.plan = AsEntity(self.plan, name, kind is Kind.NODE, rows=self.plan.rows)
                self.scope[name] = kind

    def _apply_predicates(self) -> None:
        self._build_paths()
        waiting: list[Predicate] = []
        # Cheap tests first: those with a pattern inside run a plan of their own.
        for predicate in sorted(self.graph.predicates, key=lambda p: has_pattern(p.expression)):
            if predicate.variables <= self.bound:
                self._filter(predicate.expression)
            else:
                waiting.append(predicate)
        self.graph.predicates = waiting

    def _filter(self, expression: Expression) -> None:
        self.plan, lifted = self.context.lift(self.plan, expression, self.scope)
        rows = self.plan.rows * selectivity(expression, self.context.statistics)
        self.plan = Filter(self.plan, lifted, rows=rows)

    def _build_paths(self) -> None:
        waiting = []
        for path in self.graph.paths:
            name, nodes, edges = path
            ready = all(n in self.bound for n in nodes)
            if ready and not any(e.variable in edges for e in self.graph.edges):
                self.plan = BuildPath(self.plan, name, nodes, edges, rows=self.plan.rows)
                self._bind(name, Kind.OBJECT)
            else:
                waiting.append(path)
        self.graph.paths = waiting

    def _bind(self, name: str, kind: Kind) -> None:
        self.bound.add(name)
        self.scope[name] = kind

    # ----------------------------------------------------------------- edges

    def _next_edge(self) -> Edge | None:
        best: tuple[float, int] | None = None
        for position, edge in enumerate(self.graph.edges):
            cost = self._edge_cost(edge)
            if cost is not None and (best is None or cost < best[0]):
                best = (cost, position)
        return None if best is None else self.graph.edges.pop(best[1])

    def _edge_cost(self, edge: Edge) -> float | None:
        """Expected rows for each row so far, or ``None`` if the edge cannot be followed yet."""
        if edge.variable in self.bound:
            return -1.0 if edge.shortest is None else None
        left, right = edge.left in self.bound, edge.right in self.bound
        if edge.shortest is not None:
            # After everything else: it needs both ends, and binds nothing others need.
            return 1e18 if left and right and len(self.graph.edges) == 1 else self._late(edge)
        if left and right:
            return 0.0 if not edge.many else 0.5
        if not left and not right:
            return None
        return self._fan_out(edge)

    def _late(self, edge: Edge) -> float | None:
        ends = edge.left in self.bound and edge.right in self.bound
        others = any(other.shortest is None for other in self.graph.edges)
        return None if others or not ends else 1e18

    def _fan_out(self, edge: Edge) -> float:
        statistics = self.context.statistics
        degree = statistics.relationships_of(edge.types) / max(statistics.nodes, 1.0)
        if edge.direction is Direction.BOTH:
            degree *= 2
        if not edge.many:
            return degree
        hops = edge.maximum if edge.maximum is not None else edge.minimum + 4
        return float(min(max(degree, 1.1) ** min(hops, 8), 1e12))

    def _follow(self, edge: Edge) -> None:
        distinct = tuple(e.variable for e in self.solved if e.overlaps(edge))
        if edge.variable in self.bound:
            self._follow_bound(edge)
        elif edge.shortest is not None:
            self._follow_shortest(edge)
        else:
            self._expand(edge, distinct)
        self.solved.append(edge)
        for name in (edge.left, edge.right):
            if name not in self.bound:
                self._bind(name, Kind.NODE)

    def _follow_bound(self, edge: Edge) -> None:
        self.plan = BoundRelationship(
            self.plan,
            edge.variable,
            edge.left,
            edge.right,
            edge.left in self.bound,
            edge.right in self.bound,
            edge.types,
            edge.direction,
            edge.many,
            edge.minimum,
            edge.maximum,
            rows=self.plan.rows,
        )

    def _follow_shortest(self, edge: Edge) -> None:
        self.plan = ShortestPath(
            self.plan,
            edge.left,
            edge.right,
            edge.variable,
            edge.path,
            edge.types,
            edge.direction,
            edge.minimum,
            edge.maximum,
            edge.shortest == "all",
            edge.properties,
            rows=self.plan.rows,
        )
        self._bind(edge.variable, Kind.OBJECT)
        if edge.path is not None:
            self._bind(edge.path, Kind.OBJECT)

    def _expand(self, edge: Edge, distinct: tuple[str, ...]) -> None:
        reverse = edge.left not in self.bound
        source, target = (edge.right, edge.left) if reverse else (edge.left, edge.right)
        direction = flipped(edge.direction) if reverse else edge.direction
        into = target in self.bound
        nodes = max(self.context.statistics.nodes, 1.0)
        rows = self.plan.rows * self._fan_out(edge) / (nodes if into else 1.0)
        if edge.many:
            self.plan = VariableExpand(
                self.plan,
                source,
                edge.variable,
                target,
                edge.types,
                direction,
                edge.minimum,
                edge.maximum,
                into,
                reverse,
                edge.properties,
                distinct,
                rows=rows,
            )
        else:
            self.plan = Expand(
                self.plan,
                source,
                edge.variable,
                target,
                edge.types,
                direction,
                into,
                distinct,
                rows=rows,
            )
        self._bind(edge.variable, Kind.OBJECT if edge.many else Kind.RELATIONSHIP)

    # ----------------------------------------------------------------- starts

    def _next_start(self) -> AccessPath | None:
        unbound = [name for name in self.graph.nodes if name not in self.bound]
        if not unbound:
            return None
        expressions = [p.expression for p in self.graph.predicates]
        paths = [
            best_access(
                name,
                self.graph.labels.get(name, set()),
                expressions,
                self.bound,
                self.context.statistics,
            )
            for name in unbound
        ]
        return min(paths, key=lambda path: path.rows)

    def _begin(self, start: AccessPath) -> None:
        scan = self._relationship_scan(start)
        alone = isinstance(self.plan, Argument) and not self.correlated
        if scan is not None and alone:
            self._scan_relationships(scan)
        elif alone or start.seek:
            self.plan = start.on(self.plan)
            self._consume(start)
            self._bind(start.variable, Kind.NODE)
        else:
            self._join(start)

    def _consume(self, start: AccessPath) -> None:
        if start.consumed:
            self.graph.predicates = [
                p
                for p in self.graph.predicates
                if not any(p.expression is used for used in start.consumed)
            ]

    def _relationship_scan(self, start: AccessPath) -> Edge | None:
        """An edge from whose relationships it is better to begin than from a node."""
        if start.seek or not isinstance(start.on(Argument()), (AllNodesScan, NodeLabelScan)):
            return None
        statistics = self.context.statistics
        best: Edge | None = None
        for edge in self.graph.edges:
            if edge.many or edge.shortest or edge.variable in self.bound or not edge.types:
                continue
            if edge.left in self.bound or edge.right in self.bound or edge.left == edge.right:
                continue
            count = statistics.relationships_of(edge.types)
            if count < start.rows and (
                best is None or count < statistics.relationships_of(best.types)
            ):
                best = edge
        return best

    def _scan_relationships(self, edge: Edge) -> None:
        rows = self.context.statistics.relationships_of(edge.types)
        self.plan = RelationshipScan(
            self.plan,
            edge.variable,
            edge.left,
            edge.right,
            edge.types,
            edge.direction,
            rows=rows * (2 if edge.direction is Direction.BOTH else 1),
        )
        self.graph.edges = [e for e in self.graph.edges if e is not edge]
        self.solved.append(edge)
        self._bind(edge.variable, Kind.RELATIONSHIP)
        self._bind(edge.left, Kind.NODE)
        self._bind(edge.right, Kind.NODE)

    def _join(self, start: AccessPath) -> None:
        """Plan the leaf and what filters it alone, then join it to the rows so far."""
        right: Plan = start.on(Argument())
        self._consume(start)
        alone = {start.variable}
        waiting: list[Predicate] = []
        keys: list[tuple[Expression, Expression]] = []
        for predicate in self.graph.predicates:
            if predicate.variables <= alone and not has_pattern(predicate.expression):
                rows = right.rows * selectivity(predicate.expression, self.context.statistics)
                right = Filter(right, predicate.expression, rows=rows)
                continue
            key = self._join_key(predicate, alone)
            if key is None:
                waiting.append(predicate)
            else:
                keys.append(key)
        self.graph.predicates = waiting
        if keys:
            rows = self.plan.rows * max(right.rows / 10, 1.0)
            left_keys = tuple(left for left, _ in keys)
            right_keys = tuple(key for _, key in keys)
            self.plan = HashJoin(self.plan, right, left_keys, right_keys, rows=rows)
        else:
            self.plan = Cartesian(self.plan, right, rows=self.plan.rows * right.rows)
        self._bind(start.variable, Kind.NODE)

    def _join_key(
        self, predicate: Predicate, alone: set[str]
    ) -> tuple[Expression, Expression] | None:
        """(left, right) if the predicate is an equality between what is bound and ``alone``."""
        test = predicate.expression
        if not (isinstance(test, Binary) and test.operator == "=") or has_pattern(test):
            return None
        for left, right in _both_ways(test):
            left_free, right_free = free_variables(left), free_variables(right)
            if left_free and left_free <= self.bound and right_free == alone:
                return left, right
        return None


def _both_ways(test: Binary) -> Iterator[tuple[Expression, Expression]]:
    yield test.left, test.right
    yield test.right, test.left


def plan_pattern(
    context: PlannerContext,
    plan: Plan,
    patterns: tuple[PathPattern, ...],
    where: Expression | None,
    scope: Scope,
) -> tuple[Plan, Scope]:
    """Plan ``patterns`` with a predicate on top of ``plan``, whose columns are ``scope``."""
    solver = PatternSolver(context, plan, scope, correlated=bool(scope))
    solver.add(patterns, where)
    return solver.solve()
