"""Expressions, by precedence climbing.

::

    OR  <  XOR  <  AND  <  NOT  <  = <> < <= > >=  <  IN, STARTS WITH, =~, IS NULL ...
        <  + -  <  * / %  <  ^  <  unary + -  <  .key [index] :Label

All binary operators associate to the left; ``a < b <= c`` is one chain. ``climb(level)`` reads an
operand and then every operator that binds at least as tightly as ``level``; one method for each
family of operators. AND, OR and XOR are associative even with nulls, so a long chain of them
becomes a balanced tree: a filter of ten thousand alternatives is legal, and shallow.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, Final

from graph.cypher.lexer import ANY_NAMES, INTEGER_MAX, NAMES, number_value
from graph.cypher.parser_base import DEPTH_MAX
from graph.cypher.parser_patterns import PatternParser
from graph.cypher.syntax import (
    Binary,
    Comparison,
    Expression,
    HasLabels,
    Index,
    IsNull,
    Literal,
    Property,
    Slice,
    Unary,
    Variable,
)

__all__ = ["ExpressionParser", "height"]

_OR, _NOT, _COMPARISON, _PREDICATE, _ADDITIVE = 1, 4, 5, 6, 7
_LEVELS: Final = {
    "OR": _OR,
    "XOR": 2,
    "AND": 3,
    **dict.fromkeys(("=", "<>", "!=", "<", "<=", ">", ">="), _COMPARISON),
    **dict.fromkeys(("IN", "STARTS", "ENDS", "CONTAINS", "=~", "IS"), _PREDICATE),
    **dict.fromkeys(("+", "-"), _ADDITIVE),
    **dict.fromkeys(("*", "/", "%"), 8),
    "^": 9,
}
# Up to here a chain of AND is the left-deep tree that one expects to see in a plan.
_LEFT_DEEP_TERMS: Final = 16


class ExpressionParser(PatternParser):
    """Reads operators and their operands; what operands there are is in ``AtomParser``."""

    # Levels that operators have added to trees, beside nesting, since the last whole expression.
    wraps = 0
    deepest = 0

    @abstractmethod
    def atom_reader(self) -> Callable[[], Expression]:
        """What reads the operand that is next, which begins with no name, sign or NOT."""

    @abstractmethod
    def named_atom_reader(self) -> Callable[[], Expression]:
        """What reads the operand that is next, which begins with a name but is no variable."""

    def expression(self) -> Expression:
        """Read a whole expression.

        :raises CypherSyntaxError: there is none, or its tree is higher than ``DEPTH_MAX``.
        """
        if self.depth:
            return self.climb(_OR)
        self.wraps = self.deepest = 0
        begin = self.starts[self.at]
        return self._measured(self.climb(_OR), begin)

    def target(self) -> Expression:
        """Read what SET or REMOVE changes: an operand with its ``.key``."""
        self.wraps = self.deepest = 0
        begin = self.starts[self.at]
        return self._measured(self.operand(), begin)

    def _measured(self, expression: Expression, begin: int) -> Expression:
        # Only a tree that could be too high is measured.
        if self.wraps + self.deepest > DEPTH_MAX and height(expression) > DEPTH_MAX:
            self.too_deep(begin)
        return expression

    def climb(self, minimum: int) -> Expression:
        """Read an operand and all operators of level ``minimum`` and tighter that follow it."""
        depth = self.depth + 1
        self.depth = depth
        if depth > self.deepest:
            if depth > DEPTH_MAX:
                self.too_deep(self.starts[self.at])
            self.deepest = depth
        kinds = self.kinds
        negated = kinds[self.at] == "NOT" and minimum <= _NOT
        left = self._negation() if negated else self.operand()
        while True:
            level = _LEVELS.get(kinds[self.at])
            if level is None or level < minimum:
                break
            if level < _NOT:
                left = self._logical(left, level)
            elif level == _COMPARISON:
                left = self._comparison(left)
            elif level == _PREDICATE:
                left = self._predicate(left)
            else:
                left = self._arithmetic(left, level)
        self.depth = depth - 1
        return left

    # ------------------------------------------------------------------ operators

    def _wrapped(self, links: int = 1) -> None:
        """Count a level that an operator adds; ``links`` is how many its chain has so far."""
        self.wraps += 1
        if links > DEPTH_MAX:
            self.too_deep(self.starts[self.at])

    def _negation(self) -> Expression:
        places: list[int] = []
        while self.kinds[self.at] == "NOT":
            places.append(self.starts[self.at])
            self.at += 1
            self._wrapped(len(places))
        operand = self.climb(_COMPARISON)
        for position in reversed(places):
            operand = Unary("NOT", operand, position=position)
        return operand

    def _logical(self, left: Expression, level: int) -> Expression:
        operator = self.kinds[self.at]
        terms = [left]
        while self.accept(operator):
            terms.append(self.climb(level + 1))
        self.wraps += min(len(terms), _LEFT_DEEP_TERMS + len(terms).bit_length())
        if len(terms) > _LEFT_DEEP_TERMS:
            return _balanced(operator, terms)
        for right in terms[1:]:
            left = Binary(operator, left, right, position=left.position)
        return left

    def _comparison(self, left: Expression) -> Expression:
        kinds = self.kinds
        operands = [left]
        operators: list[str] = []
        while _LEVELS.get(kinds[self.at]) == _COMPARISON:
            operator = kinds[self.at]
            operators.append("<>" if operator == "!=" else operator)
            self.at += 1
            operands.append(self.climb(_PREDICATE))
        self._wrapped()
        if len(operators) == 1:
            return Binary(operators[0], left, operands[1], position=left.position)
        return Comparison(tuple(operands), tuple(operators), position=left.position)

    def _predicate(self, left: Expression) -> Expression:
        kinds = self.kinds
        links = 0
        while _LEVELS.get(kinds[self.at]) == _PREDICATE:
            links += 1
            self._wrapped(links)
            operator = kinds[self.at]
            self.at += 1
            if operator == "IS":
                negated = self.accept("NOT")
                self.expect("NULL")
                left = IsNull(left, negated, position=left.position)
                continue
            if operator == "STARTS" or operator == "ENDS":
                self.expect("WITH")
                operator += "_WITH"
            left = Binary(operator, left, self.climb(_ADDITIVE), position=left.position)
        return left

    def _arithmetic(self, left: Expression, level: int) -> Expression:
        kinds = self.kinds
        links = 0
        while _LEVELS.get(kinds[self.at]) == level:
            links += 1
            self._wrapped(links)
            operator = kinds[self.at]
            self.at += 1
            left = Binary(operator, left, self.climb(level + 1), position=left.position)
        return left

    # ------------------------------------------------------------------ operands

    def operand(self) -> Expression:
        """Read signs, an atom, and what is attached to it: ``-n.list[0]``."""
        kinds = self.kinds
        at = self.at
        kind = kinds[at]
        signs: list[int] = []
        while kind == "-" or kind == "+":
            follows = kinds[at + 1]
            if kind == "-" and (follows == "INTEGER" or follows == "FLOAT"):
                # The sign belongs to the number, or -9223372036854775808 could not be written.
                break
            signs.append(at)
            self._wrapped(len(signs))
            at += 1
            kind = follows
        self.at = at
        if kind in NAMES:
            follows = kinds[at + 1]
            if follows == "(" or follows == "{" or (follows == "." and self._call_follows(at)):
                expression = self.named_atom_reader()()
            else:
                expression = Variable(self.values[at], position=self.starts[at])
                self.at = at + 1
        else:
            expression = self.atom_reader()()
        kind = kinds[self.at]
        if kind == "." or kind == "[" or kind == ":":
            expression = self._attached(expression)
        for sign in reversed(signs):
            expression = Unary(kinds[sign], expression, position=self.starts[sign])
        return expression

    def _call_follows(self, at: int) -> bool:
        """Whether ``name.name.name`` ends in ``(`` and so names a function."""
        kinds = self.kinds
        at += 1
        while kinds[at] == "." and kinds[at + 1] in ANY_NAMES:
            at += 2
        return kinds[at] == "("

    def _attached(self, expression: Expression) -> Expression:
        kinds = self.kinds
        links = 0
        while True:
            kind = kinds[self.at]
            if kind == ".":
                self.at += 1
                key = self.any_name("a property key")
                expression = Property(expression, key, position=expression.position)
            elif kind == "[":
                expression = self._subscript(expression)
            elif kind == ":":
                expression = HasLabels(expression, self.labels(), position=expression.position)
            else:
                return expression
            links += 1
            self._wrapped(links)

    def _subscript(self, subject: Expression) -> Expression:
        self.at += 1
        self.deeper()
        start: Expression | None = None
        if self.kinds[self.at] != "..":
            start = self.climb(_OR)
            if self.accept("]"):
                self.depth -= 1
                return Index(subject, start, position=subject.position)
        if not self.accept(".."):
            self.fail("'..'", "']'")
        stop = None if self.kinds[self.at] == "]" else self.climb(_OR)
        self.expect("]")
        self.depth -= 1
        return Slice(subject, start, stop, position=subject.position)

    def number(self) -> Literal:
        """Read an integer or float, with a minus sign if there is one.

        :raises CypherSyntaxError: it is out of range (``IntegerOverflow``,
            ``FloatingPointOverflow``).
        """
        begin = self.at
        negative = self.accept("-")
        written = self.values[self.at]
        value = number_value(written)
        if isinstance(value, int):
            if value > INTEGER_MAX + negative:
                self.error(f"The integer {written[:40]} is too large", detail="IntegerOverflow")
        elif value == float("inf"):
            self.error(f"The number {written[:40]} is too large", detail="FloatingPointOverflow")
        self.at += 1
        return Literal(-value if negative else value, position=self.starts[begin])


def _balanced(operator: str, terms: list[Expression]) -> Expression:
    if len(terms) == 1:
        return terms[0]
    middle = (len(terms) + 1) // 2
    left = _balanced(operator, terms[:middle])
    return Binary(operator, left, _balanced(operator, terms[middle:]), position=left.position)


_FIELD_NAMES: dict[type[Any], tuple[str, ...]] = {}  # of the classes of the tree; no others


def _field_names(kind: type[Any]) -> tuple[str, ...]:
    names = _FIELD_NAMES.get(kind)
    if names is None:
        names = tuple(f.name for f in fields(kind)) if is_dataclass(kind) else ()
        _FIELD_NAMES[kind] = names
    return names


def height(tree: Any) -> int:
    """How many expressions stand inside one another in ``tree`` at most; needs no stack itself."""
    highest = 0
    pending: list[tuple[Any, int]] = [(tree, 0)]
    while pending:
        item, level = pending.pop()
        if isinstance(item, tuple):
            pending.extend([(each, level) for each in item])
            continue
        if isinstance(item, Expression):
            level += 1
            highest = max(highest, level)
        pending.extend([(getattr(item, name), level) for name in _field_names(type(item))])
    return highest
