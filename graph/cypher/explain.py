"""EXPLAIN and PROFILE: a plan as nested maps, in the form that Bolt clients of Neo4j expect.

A node of the plan is ``{"operatorType", "args", "identifiers", "children"}``; of a PROFILE also
``dbHits`` (0: the store does not count them), ``rows`` and the same inside ``args``. Expressions
are shown as Cypher again, without brackets that do not matter.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from graph.cypher import plan as p
from graph.cypher import syntax as s
from graph.cypher.compiler import walk

__all__ = ["describe", "shown"]

_NAMES: dict[type, str] = {
    p.Cartesian: "CartesianProduct",
    p.Expand: "Expand(All)",
    p.Extend: "Projection",
    p.HashJoin: "ValueHashJoin",
    p.Aggregation: "EagerAggregation",
    p.NodeById: "NodeByIdSeek",
    p.Project: "Projection",
    p.RollUp: "RollUpApply",
    p.VariableExpand: "VarLengthExpand(All)",
    p.NodeLabelScan: "NodeByLabelScan",
    p.Update: "SetProperty",
    p.CountStore: "NodeCountFromCountStore",
}
# Arguments beyond this many characters are cut: a plan must not repeat a query of a mebibyte.
_DETAILS_CHARS_MAX = 2_000


def describe(
    plan: p.Plan, fields_: tuple[str, ...], profile: dict[int, int] | None = None
) -> dict[str, Any]:
    """The plan as nested maps; ``profile``: rows by operator number, of a run."""
    numbers = {id(node): number for number, node in enumerate(walk(plan))}

    def visit(node: p.Plan) -> dict[str, Any]:
        arguments: dict[str, Any] = {"EstimatedRows": round(node.rows, 3)}
        details = _details(node)
        if details:
            arguments["Details"] = details[:_DETAILS_CHARS_MAX]
        shown_node: dict[str, Any] = {
            "operatorType": _name(node),
            "args": arguments,
            "identifiers": _identifiers(node),
            "children": [visit(_seen(child)) for child in p.children(node)],
        }
        if profile is not None:
            rows = profile.get(numbers[id(node)], 0)
            arguments["Rows"] = rows
            arguments["DbHits"] = 0
            shown_node["rows"] = rows
            shown_node["dbHits"] = 0
        return shown_node

    return {
        "operatorType": "ProduceResults",
        "args": {
            "Details": ", ".join(fields_),
            "planner": "COST",
            "planner-impl": "GREEDY",
            "runtime": "BATCHED",
            "version": "5",
            "EstimatedRows": round(plan.rows, 3),
            **({} if profile is None else {"Rows": profile.get(0, 0), "DbHits": 0}),
        },
        "identifiers": list(fields_),
        "children": [visit(_seen(plan))],
        **({} if profile is None else {"rows": profile.get(0, 0), "dbHits": 0}),
    }


def _seen(node: p.Plan) -> p.Plan:
    """The node below any ``Prune``: dropping columns is no step that anybody asks about."""
    while isinstance(node, p.Prune):
        node = node.input
    return node


def _name(node: p.Plan) -> str:
    if isinstance(node, p.Expand) and node.into:
        return "Expand(Into)"
    if isinstance(node, p.NodeIndexSeek) and node.unique:
        return "NodeUniqueIndexSeek"
    if isinstance(node, p.CountStore) and node.what == "relationship":
        return "RelationshipCountFromCountStore"
    if isinstance(node, p.Delete) and node.detach:
        return "DetachDelete"
    return _NAMES.get(type(node), type(node).__name__)


def _identifiers(node: p.Plan) -> list[str]:
    """Names that the node binds, without hidden ones."""
    names: list[str] = []
    for key in ("variable", "relationship", "source", "target", "path", "name"):
        value = getattr(node, key, None)
        if isinstance(value, str):
            names.append(value)
    for key in ("items", "keys"):
        value = getattr(node, key, None) or ()
        names.extend(v[0] for v in value if isinstance(v, tuple) and isinstance(v[0], str))
    return [name for name in dict.fromkeys(names) if not name.startswith(p.HIDDEN)]


def _details(node: p.Plan) -> str:
    if isinstance(node, (p.Expand, p.VariableExpand, p.ShortestPath)):
        return _pattern(node)
    if isinstance(node, (p.Project, p.Extend)):
        return ", ".join(_item(name, e) for name, e in node.items)
    if isinstance(node, p.Aggregation):
        keys = [_item(name, e) for name, e in node.keys]
        return ", ".join(keys + [_aggregate(item) for item in node.aggregates])
    if isinstance(node, (p.Sort, p.Top)):
        return ", ".join(f"{name} {'DESC' if down else 'ASC'}" for name, down in node.items)
    if isinstance(node, p.NodeIndexSeek):
        tests = [f"{k} = {shown(v)}" for k, v in zip(node.keys, node.values, strict=True)]
        return f"{node.variable}:{node.label}({', '.join(tests)})"
    if isinstance(node, p.Create):
        return ", ".join([n.variable for n in node.nodes] + [r.type for r in node.relationships])
    parts = []
    for item in fields(node):
        value = getattr(node, item.name)
        if item.name == "rows" or isinstance(value, p.Plan) or value in (None, (), False):
            continue
        parts.append(f"{item.name}: {_value(value)}")
    return ", ".join(parts)


def _item(name: str, expression: s.Expression) -> str:
    text = shown(expression)
    return text if text == name else f"{text} AS {name}"


def _aggregate(item: p.AggregateItem) -> str:
    arguments = ", ".join(shown(a) for a in item.arguments) or "*"
    return f"{item.function}({'DISTINCT ' if item.distinct else ''}{arguments}) AS {item.name}"


def _pattern(node: p.Expand | p.VariableExpand | p.ShortestPath) -> str:
    types = "" if not node.types else ":" + "|".join(node.types)
    hops = ""
    if not isinstance(node, p.Expand):
        hops = f"*{node.minimum}..{'' if node.maximum is None else node.maximum}"
    name = node.relationship or ""
    left = "<-" if node.direction is s.Direction.IN else "-"
    right = "->" if node.direction is s.Direction.OUT else "-"
    return f"({node.source}){left}[{name}{types}{hops}]{right}({node.target or ''})"


def _value(value: Any) -> str:
    if isinstance(value, s.Expression):
        return shown(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, p.UpdateItem):
        right = "" if value.value is None else f" = {shown(value.value)}"
        key = f".{value.key}" if value.key else "".join(f":{label}" for label in value.labels)
        return f"{shown(value.subject)}{key}{right}"
    return str(value)


def shown(expression: s.Expression | None) -> str:
    """An expression as Cypher text, for people to read."""
    if expression is None:
        return ""
    method = _SHOWN.get(type(expression))
    return type(expression).__name__ if method is None else method(expression)


def _literal(e: s.Literal) -> str:
    if isinstance(e.value, str):
        return '"' + e.value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(e.value, bool) or e.value is None:
        return str(e.value).lower().replace("none", "null")
    return str(e.value)


def _call(e: s.FunctionCall) -> str:
    arguments = ", ".join(shown(a) for a in e.arguments)
    return f"{e.name}({'DISTINCT ' if e.distinct else ''}{arguments})"


def _case(e: s.Case) -> str:
    parts = ["CASE"]
    if e.subject is not None:
        parts.append(shown(e.subject))
    for condition, value in e.branches:
        parts.append(f"WHEN {shown(condition)} THEN {shown(value)}")
    if e.otherwise is not None:
        parts.append(f"ELSE {shown(e.otherwise)}")
    return " ".join([*parts, "END"])


def _comprehension(e: s.ListComprehension) -> str:
    where = "" if e.predicate is None else f" WHERE {shown(e.predicate)}"
    projection = "" if e.projection is None else f" | {shown(e.projection)}"
    return f"[{e.variable} IN {shown(e.source)}{where}{projection}]"


def _comparison(e: s.Comparison) -> str:
    text = shown(e.operands[0])
    for operator, operand in zip(e.operators, e.operands[1:], strict=True):
        text += f" {operator} {shown(operand)}"
    return text


def _operand(e: s.Expression) -> str:
    text = shown(e)
    return f"({text})" if isinstance(e, (s.Binary, s.Comparison)) else text


_SHOWN: dict[type, Any] = {
    s.Literal: _literal,
    s.Parameter: lambda e: f"${e.name.strip()}",
    s.Variable: lambda e: e.name,
    s.Property: lambda e: f"{_operand(e.subject)}.{e.key}",
    s.Index: lambda e: f"{shown(e.subject)}[{shown(e.index)}]",
    s.Slice: lambda e: f"{shown(e.subject)}[{shown(e.start)}..{shown(e.stop)}]",
    s.ListLiteral: lambda e: "[" + ", ".join(shown(i) for i in e.items) + "]",
    s.MapLiteral: lambda e: "{" + ", ".join(f"{k}: {shown(v)}" for k, v in e.items) + "}",
    s.Unary: lambda e: f"{e.operator} {_operand(e.operand)}",
    s.Binary: lambda e: f"{_operand(e.left)} {e.operator.replace('_', ' ')} {_operand(e.right)}",
    s.Comparison: _comparison,
    s.IsNull: lambda e: f"{_operand(e.operand)} IS {'NOT ' if e.negated else ''}NULL",
    s.HasLabels: lambda e: shown(e.subject) + "".join(f":{label}" for label in e.labels),
    s.FunctionCall: _call,
    s.CountStar: lambda e: "count(*)",
    s.Case: _case,
    s.ListComprehension: _comprehension,
    s.Quantifier: lambda e: (
        f"{e.quantifier}({e.variable} IN {shown(e.source)} WHERE {shown(e.predicate)})"
    ),
    s.Reduce: lambda e: (
        f"reduce({e.accumulator} = {shown(e.initial)}, {e.variable} IN {shown(e.source)}"
        f" | {shown(e.body)})"
    ),
}
