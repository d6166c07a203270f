"""The compiler from syntax trees of expressions to ``Compiled`` objects.

``compile_expression`` is called once per plan, ``evaluate`` once per chunk; see ``evaluation.py``
for what a compiled expression is, and ``expressions_*.py`` for the operations. Whatever is computed
of literals and parameters alone is wrapped so that a run computes it once.

Aggregations and patterns do not belong here: the planner replaces them by variables that stand for
columns of its operators before it compiles (``trees.substitute``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graph.cypher import syntax
from graph.cypher.evaluation import Compiled, Context, Scope, one_row
from graph.cypher.expressions_arithmetic import ArithmeticNode, NegateNode, PlusNode
from graph.cypher.expressions_basic import (
    ConstantFold,
    HasLabelsNode,
    IsNullNode,
    LiteralNode,
    ParameterNode,
    PropertyNode,
    VariableNode,
)
from graph.cypher.expressions_calls import CallNode
from graph.cypher.expressions_collections import (
    IndexNode,
    ListNode,
    MapNode,
    MapProjectionNode,
    MembershipNode,
    SliceNode,
)
from graph.cypher.expressions_comparison import CompareNode, StringPredicateNode
from graph.cypher.expressions_lambdas import ComprehensionNode, QuantifierNode, ReduceNode
from graph.cypher.expressions_logic import (
    CaseNode,
    CoalesceNode,
    JunctionNode,
    NotNode,
    XorNode,
    true_rows,
)
from graph.cypher.expressions_regex import RegexNode
from graph.cypher.functions.registry import find_function
from graph.cypher.references import boxed
from graph.cypher.trees import bound_variables, children, is_aggregate, variables_in
from graph.errors import CypherSemanticError

__all__ = [
    "Compiled",
    "Context",
    "Scope",
    "compile_expression",
    "constant_value",
    "true_rows",
]


def compile_expression(expression: syntax.Expression, scope: Scope) -> Compiled:
    """Compile an expression over the columns named in ``scope``.

    Raises:
        CypherSemanticError: unknown variable or function, wrong number of arguments.
        AssertionError: an aggregation or a pattern, which the planner should have replaced.
    """
    compiler = _COMPILERS.get(type(expression))
    assert compiler is not None, f"{type(expression).__name__} must be replaced by the planner"
    node = compiler(expression, scope)
    if node.constant and not isinstance(node, (LiteralNode, ParameterNode, ConstantFold)):
        return ConstantFold(node)
    return node


def constant_value(expression: syntax.Expression, context: Context) -> Any:
    """The value of an expression without variables, as SKIP and LIMIT have.

    Raises:
        CypherSemanticError: the expression uses a variable.
    """
    node = compile_expression(expression, Scope({}))
    assert context.parameter_columns is None, "a batched run has no single value"
    return boxed(node.evaluate(one_row(), context))[0]


def _literal(expression: syntax.Literal, scope: Scope) -> Compiled:
    return LiteralNode(expression.value)


def _parameter(expression: syntax.Parameter, scope: Scope) -> Compiled:
    return ParameterNode(expression.name)


def _variable(expression: syntax.Variable, scope: Scope) -> Compiled:
    if expression.name not in scope:
        raise CypherSemanticError(
            f"Variable `{expression.name}` not defined", detail="UndefinedVariable"
        )
    return VariableNode(expression.name)


def _property(expression: syntax.Property, scope: Scope) -> Compiled:
    return PropertyNode(compile_expression(expression.subject, scope), expression.key)


def _index(expression: syntax.Index, scope: Scope) -> Compiled:
    return IndexNode(
        compile_expression(expression.subject, scope), compile_expression(expression.index, scope)
    )


def _optional(expression: syntax.Expression | None, scope: Scope) -> Compiled | None:
    return None if expression is None else compile_expression(expression, scope)


def _slice(expression: syntax.Slice, scope: Scope) -> Compiled:
    return SliceNode(
        compile_expression(expression.subject, scope),
        _optional(expression.start, scope),
        _optional(expression.stop, scope),
    )


def _list(expression: syntax.ListLiteral, scope: Scope) -> Compiled:
    return ListNode([compile_expression(item, scope) for item in expression.items])


def _map(expression: syntax.MapLiteral, scope: Scope) -> Compiled:
    return MapNode([(key, compile_expression(value, scope)) for key, value in expression.items])


def _projection(expression: syntax.MapProjection, scope: Scope) -> Compiled:
    return MapProjectionNode(
        compile_expression(expression.subject, scope),
        [(key, _optional(value, scope)) for key, value in expression.items],
    )


def _unary(expression: syntax.Unary, scope: Scope) -> Compiled:
    operand = compile_expression(expression.operand, scope)
    if expression.operator == "NOT":
        return NotNode(operand)
    return NegateNode(operand) if expression.operator == "-" else PlusNode(operand)


def _binary(expression: syntax.Binary, scope: Scope) -> Compiled:
    operator = expression.operator
    if operator in ("AND", "OR"):
        operands = [compile_expression(e, scope) for e in _junction(expression, operator)]
        return JunctionNode(operator == "AND", operands, variables_in(expression))
    left = compile_expression(expression.left, scope)
    right = compile_expression(expression.right, scope)
    if operator in ("=", "<>", "<", "<=", ">", ">="):
        return CompareNode(operator, left, right)
    if operator == "XOR":
        return XorNode(left, right)
    if operator == "IN":
        return MembershipNode(left, right)
    if operator == "=~":
        return RegexNode(left, right)
    if operator in ("STARTS_WITH", "ENDS_WITH", "CONTAINS"):
        return StringPredicateNode(operator, left, right)
    return ArithmeticNode(operator, left, right)


def _junction(expression: syntax.Expression, operator: str) -> list[syntax.Expression]:
    """The operands of a chain of one operator, left to right, without recursion."""
    operands: list[syntax.Expression] = []
    stack = [expression]
    while stack:
        node = stack.pop()
        if isinstance(node, syntax.Binary) and node.operator == operator:
            stack.extend((node.right, node.left))
        else:
            operands.append(node)
    return operands


def _comparison(expression: syntax.Comparison, scope: Scope) -> Compiled:
    operands = [compile_expression(operand, scope) for operand in expression.operands]
    pairs = zip(expression.operators, operands[:-1], operands[1:], strict=True)
    nodes = [CompareNode(operator, a, b) for operator, a, b in pairs]
    return JunctionNode(True, nodes, variables_in(expression))


def _is_null(expression: syntax.IsNull, scope: Scope) -> Compiled:
    return IsNullNode(compile_expression(expression.operand, scope), expression.negated)


def _has_labels(expression: syntax.HasLabels, scope: Scope) -> Compiled:
    return HasLabelsNode(compile_expression(expression.subject, scope), expression.labels)


def _case(expression: syntax.Case, scope: Scope) -> Compiled:
    return CaseNode(
        _optional(expression.subject, scope),
        [
            (compile_expression(condition, scope), compile_expression(value, scope))
            for condition, value in expression.branches
        ],
        _optional(expression.otherwise, scope),
        variables_in(expression),
    )


def _lambda_names(expression: syntax.Expression) -> frozenset[str]:
    """The outer variables that the bodies of a binding expression use."""
    names: frozenset[str] = frozenset()
    for child in children(expression):
        names |= variables_in(child)
    return names - frozenset(bound_variables(expression))


def _comprehension(expression: syntax.ListComprehension, scope: Scope) -> Compiled:
    inner = scope.child({expression.variable: None})
    return ComprehensionNode(
        expression.variable,
        compile_expression(expression.source, scope),
        _optional(expression.predicate, inner),
        _optional(expression.projection, inner),
        _lambda_names(expression),
    )


def _quantifier(expression: syntax.Quantifier, scope: Scope) -> Compiled:
    inner = scope.child({expression.variable: None})
    return QuantifierNode(
        expression.quantifier.lower(),
        expression.variable,
        compile_expression(expression.source, scope),
        compile_expression(expression.predicate, inner),
        _lambda_names(expression),
    )


def _reduce(expression: syntax.Reduce, scope: Scope) -> Compiled:
    inner = scope.child({expression.accumulator: None, expression.variable: None})
    return ReduceNode(
        expression.accumulator,
        compile_expression(expression.initial, scope),
        expression.variable,
        compile_expression(expression.source, scope),
        compile_expression(expression.body, inner),
        _lambda_names(expression),
    )


def _call(expression: syntax.FunctionCall, scope: Scope) -> Compiled:
    assert not is_aggregate(expression), "an aggregation must be replaced by the planner"
    name = expression.name.lower()
    arguments = [compile_expression(argument, scope) for argument in expression.arguments]
    if name == "coalesce" and arguments:
        return CoalesceNode(arguments, variables_in(expression))
    if name == "exists" and len(arguments) == 1:
        return IsNullNode(arguments[0], negated=True)
    function = find_function(name)
    if function is None:
        raise CypherSemanticError(f"Unknown function `{name}`", detail="UnknownFunction")
    count = len(arguments)
    most = function.max_args
    if count < function.min_args or (most is not None and count > most):
        expected = str(function.min_args)
        if most != function.min_args:
            expected += " or more" if most is None else f" to {most}"
        raise CypherSemanticError(
            f"Function `{function.name}()` takes {expected} arguments but was given {count}",
            detail="InvalidNumberOfArguments",
        )
    return CallNode(function, arguments)


_COMPILERS: dict[type, Callable[[Any, Scope], Compiled]] = {
    syntax.Literal: _literal,
    syntax.Parameter: _parameter,
    syntax.Variable: _variable,
    syntax.Property: _property,
    syntax.Index: _index,
    syntax.Slice: _slice,
    syntax.ListLiteral: _list,
    syntax.MapLiteral: _map,
    syntax.MapProjection: _projection,
    syntax.Unary: _unary,
    syntax.Binary: _binary,
    syntax.Comparison: _comparison,
    syntax.IsNull: _is_null,
    syntax.HasLabels: _has_labels,
    syntax.FunctionCall: _call,
    syntax.Case: _case,
    syntax.ListComprehension: _comprehension,
    syntax.Quantifier: _quantifier,
    syntax.Reduce: _reduce,
}
