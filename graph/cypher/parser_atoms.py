"""Operands: literals, lists, maps, calls, CASE, comprehensions, quantifiers, subqueries."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from types import MethodType
from typing import Final

from graph.cypher.lexer import NAMES, unescape_string
from graph.cypher.parser_expressions import ExpressionParser
from graph.cypher.syntax import (
    Case,
    CountStar,
    CountSubquery,
    ExistsSubquery,
    Expression,
    FunctionCall,
    Index,
    IsNull,
    ListComprehension,
    ListLiteral,
    Literal,
    MapLiteral,
    MapProjection,
    Match,
    Parameter,
    PathPattern,
    PatternComprehension,
    PatternCount,
    PatternPredicate,
    Property,
    Quantifier,
    Query,
    Reduce,
    Return,
    Variable,
)

__all__ = ["AtomParser"]

_CLAUSE_BEGIN: Final = frozenset(
    {"CALL", "CREATE", "DELETE", "DETACH", "MATCH", "MERGE"}
    | {"OPTIONAL", "REMOVE", "RETURN", "SET", "UNWIND", "WITH"}
)
# A query inside an expression takes up to a dozen stack frames before the next expression.
_SUBQUERY_LEVELS: Final = 4


class AtomParser(ExpressionParser):
    """Reads operands."""

    @abstractmethod
    def query(self) -> Query:
        """Read clauses up to the end of a query or the ``}`` that closes it."""

    # Readers are handed out and not called here, which saves a stack frame in each level.

    def atom_reader(self) -> Callable[[], Expression]:
        reader = _ATOMS.get(self.kinds[self.at])
        if reader is None:
            self.fail("an expression")
        return MethodType(reader, self)

    def named_atom_reader(self) -> Callable[[], Expression]:
        at = self.at
        kinds = self.kinds
        if kinds[at + 1] == "{":
            if kinds[at] == "COUNT":
                return self._count_subquery
            return self._map_projection
        special = _SPECIAL_CALLS.get(kinds[at])
        if special is not None and kinds[at + 1] == "(":
            binds = kinds[at + 2] in NAMES and kinds[at + 3 : at + 4] in (["IN"], ["="])
            if binds or kinds[at] in ("SHORTESTPATH", "ALLSHORTESTPATHS") or kinds[at + 2] == "*":
                return MethodType(special, self)
        return self._call

    # ------------------------------------------------------------------ literals

    def _constant(self) -> Expression:
        kind = self.kinds[self.at]
        self.at += 1
        value = None if kind == "NULL" else kind == "TRUE"
        return Literal(value, position=self.starts[self.at - 1])

    def _sign(self) -> Expression:
        return self.number()

    def _bad_number(self) -> Expression:
        written = self.values[self.at][:40]
        self.error(f"Invalid number literal '{written}'", detail="InvalidNumberLiteral")

    def string(self) -> Literal:
        """Read a string literal.

        :raises CypherSyntaxError: an escape in it is not one (``InvalidUnicodeLiteral``).
        """
        at = self.at
        raw = self.values[at]
        try:
            value = unescape_string(raw)
        except ValueError as error:
            message, offset = error.args
            unicode = raw[offset + 1 : offset + 2] in ("u", "U") or "surrogate" in message
            detail = "InvalidUnicodeLiteral" if unicode else "UnexpectedSyntax"
            self.error_within(f"Invalid string literal: {message}", offset, detail)
        self.at += 1
        return Literal(value, position=self.starts[at])

    def _parameter(self) -> Expression:
        self.at += 1
        return Parameter(self.values[self.at - 1], position=self.starts[self.at - 1])

    def map_literal(self) -> MapLiteral:
        position = self.starts[self.at]
        self.expect("{")
        items: list[tuple[str, Expression]] = []
        if not self.accept("}"):
            while True:
                key = self.any_name("a property key")
                self.expect(":")
                items.append((key, self.climb(1)))
                if not self.accept(","):
                    break
            if not self.accept("}"):
                self.fail("','", "'}'")
        return MapLiteral(tuple(items), position=position)

    def _list(self) -> Expression:
        at = self.at
        kinds = self.kinds
        follows = kinds[at + 1]
        if follows in NAMES and kinds[at + 2] == "IN" and at not in self.brackets.has_comma:
            return self._list_comprehension()
        named = kinds[at + 2] == "=" and follows in NAMES
        opens = at + 3 if named else at + 1
        if (
            (named or follows == "(")
            and kinds[opens] == "("
            and at in self.brackets.has_bar
            and self.pattern_follows(opens)
        ):
            return self._pattern_comprehension()
        self.at = at + 1
        items: list[Expression] = []
        if not self.accept("]"):
            items.append(self.climb(1))
            while self.accept(","):
                items.append(self.climb(1))
            if not self.accept("]"):
                self.fail("','", "']'")
        return ListLiteral(tuple(items), position=self.starts[at])

    # ------------------------------------------------------------------ names

    def _call(self) -> Expression:
        position = self.starts[self.at]
        parts = [self.any_name("a function name")]
        while self.accept("."):
            parts.append(self.any_name("a function name"))
        name = ".".join(parts).lower()
        self.expect("(")
        distinct = self.accept("DISTINCT")
        arguments: list[Expression] = []
        if not self.accept(")"):
            arguments.append(self.climb(1))
            while self.accept(","):
                arguments.append(self.climb(1))
            if not self.accept(")"):
                self.fail("','", "')'")
        return FunctionCall(name, tuple(arguments), distinct, position=position)

    def _map_projection(self) -> Expression:
        subject = Variable(self.values[self.at], position=self.starts[self.at])
        self.at += 2
        items: list[tuple[str, Expression | None]] = []
        self.deeper()
        while self.kinds[self.at] != "}":
            items.append(self._map_projection_item())
            if not self.accept(","):
                break
        if not self.accept("}"):
            self.fail("','", "'}'")
        self.depth -= 1
        return MapProjection(subject, tuple(items), position=subject.position)

    def _map_projection_item(self) -> tuple[str, Expression | None]:
        if self.accept("."):
            if self.accept("*"):
                return "*", None
            return self.any_name("a property key"), None
        at = self.at
        key = self.any_name("a property key")
        if self.accept(":"):
            return key, self.climb(1)
        self.at = at
        return self.name("a variable"), Variable(key, position=self.starts[at])

    def _count(self) -> Expression:
        at = self.at
        if self.kinds[at + 2] != "*":
            return self._call()
        self.at += 3
        self.expect(")")
        return CountStar(position=self.starts[at])

    # ------------------------------------------------------------------ parentheses and CASE

    def _parenthesised(self) -> Expression:
        at = self.at
        if self.pattern_follows(at):
            return PatternPredicate((self.chain(None, at),), position=self.starts[at])
        self.at = at + 1
        expression = self.climb(1)
        if not self.accept(")"):
            self.fail("an operator", "')'")
        return expression

    def _case(self) -> Expression:
        position = self.starts[self.at]
        self.at += 1
        subject = None if self.kinds[self.at] == "WHEN" else self.climb(1)
        branches: list[tuple[Expression, Expression]] = []
        while self.accept("WHEN"):
            condition = self.climb(1)
            self.expect("THEN")
            branches.append((condition, self.climb(1)))
        if not branches:
            self.fail("WHEN")
        otherwise = self.climb(1) if self.accept("ELSE") else None
        if not self.accept("END"):
            self.fail("END") if otherwise else self.fail("WHEN", "ELSE", "END")
        return Case(subject, tuple(branches), otherwise, position=position)

    # ------------------------------------------------------------------ binding a variable

    def _binding(self) -> tuple[str, Expression]:
        """``variable IN source``."""
        variable = self.name("a variable")
        self.expect("IN")
        return variable, self.climb(1)

    def _list_comprehension(self) -> Expression:
        position = self.starts[self.at]
        self.at += 1
        self.deeper()
        variable, source = self._binding()
        predicate = self.climb(1) if self.accept("WHERE") else None
        projection = self.climb(1) if self.accept("|") else None
        if not self.accept("]"):
            self.fail("']'") if projection else self.fail("'|'", "']'")
        self.depth -= 1
        return ListComprehension(variable, source, predicate, projection, position=position)

    def _pattern_comprehension(self) -> Expression:
        position = self.starts[self.at]
        self.at += 1
        self.deeper()
        path = self.path()
        predicate = self.climb(1) if self.accept("WHERE") else None
        if not self.accept("|"):
            self.fail("'|'") if predicate else self.fail("WHERE", "'|'")
        projection = self.climb(1)
        self.expect("]")
        self.depth -= 1
        return PatternComprehension(path, predicate, projection, position=position)

    def _quantifier(self) -> Expression:
        at = self.at
        self.at += 1
        self.expect("(")
        self.deeper()
        variable, source = self._binding()
        self.expect("WHERE")
        predicate = self.climb(1)
        self.expect(")")
        self.depth -= 1
        return Quantifier(
            self.values[at].lower(), variable, source, predicate, position=self.starts[at]
        )

    def _reduce(self) -> Expression:
        position = self.starts[self.at]
        self.at += 2
        self.deeper()
        accumulator = self.name("a variable")
        self.expect("=")
        initial = self.climb(1)
        self.expect(",")
        variable, source = self._binding()
        self.expect("|")
        body = self.climb(1)
        self.expect(")")
        self.depth -= 1
        return Reduce(accumulator, initial, variable, source, body, position=position)

    def _extract_or_filter(self) -> Expression:
        """``extract(x IN list | e)`` and ``filter(x IN list WHERE p)``: older spellings."""
        at = self.at
        self.at += 2
        self.deeper()
        variable, source = self._binding()
        predicate = self.climb(1) if self.accept("WHERE") else None
        projection = self.climb(1) if self.accept("|") else None
        self.expect(")")
        self.depth -= 1
        return ListComprehension(variable, source, predicate, projection, position=self.starts[at])

    def _shortest(self) -> Expression:
        name = self.values[self.at]
        self.error(f"{name}(...) can only stand in MATCH: write MATCH p = {name}(...)")

    # ------------------------------------------------------------------ subqueries

    def _exists(self) -> Expression:
        position = self.starts[self.at]
        self.at += 1
        if self.kinds[self.at] == "{":
            return self._exists_subquery(position)
        self.expect("(")
        if self.kinds[self.at] == "(" and self.pattern_follows(self.at):
            patterns = (self.path(),)
            self.expect(")")
            return PatternPredicate(patterns, form="exists", position=position)
        begin = self.at
        subject = self.climb(1)
        if not isinstance(subject, (Property, Index)):
            self.error("exists(...) takes a property or a pattern with a relationship", at=begin)
        self.expect(")")
        return IsNull(subject, True, position=position)

    def _exists_subquery(self, position: int) -> Expression:
        patterns, where, query = self._subquery()
        if query is not None:
            return ExistsSubquery(query, position=position)
        return PatternPredicate(patterns, where, "subquery", position=position)

    def _count_subquery(self) -> Expression:
        position = self.starts[self.at]
        self.at += 1
        patterns, where, query = self._subquery()
        if query is not None:
            return CountSubquery(query, position=position)
        return PatternCount(patterns, where, position=position)

    def _subquery(self) -> tuple[tuple[PathPattern, ...], Expression | None, Query | None]:
        """``{ patterns WHERE ... }``, or ``{ query }`` where it is more than that."""
        self.expect("{")
        self.deeper(_SUBQUERY_LEVELS)
        patterns: tuple[PathPattern, ...] = ()
        where: Expression | None = None
        query: Query | None = None
        if self.kinds[self.at] in _CLAUSE_BEGIN:
            query = self.query()
            match = _lone_match(query)
            if match is not None:
                patterns, where, query = match.patterns, match.where, None
        else:
            patterns = self.patterns()
            where = self.climb(1) if self.accept("WHERE") else None
        if not self.accept("}"):
            self.fail("'}'") if where else self.fail("','", "WHERE", "'}'")
        self.depth -= _SUBQUERY_LEVELS
        return patterns, where, query


def _lone_match(query: Query) -> Match | None:
    """The MATCH that ``query`` amounts to, where only the number of its rows matters."""
    if len(query.parts) != 1:
        return None
    clauses = query.parts[0].clauses
    match = clauses[0]
    if not isinstance(match, Match) or match.optional or len(clauses) > 2:
        return None
    if len(clauses) == 2:
        last = clauses[1]
        if not isinstance(last, Return):
            return None
        shape = last.projection
        if shape.distinct or shape.skip is not None or shape.limit is not None or shape.order_by:
            return None
        if shape.star or not all(isinstance(item.expression, Literal) for item in shape.items):
            return None
    return match


_ATOMS: Final[dict[str, Callable[[AtomParser], Expression]]] = {
    "(": AtomParser._parenthesised,
    "-": AtomParser._sign,
    "ALL": AtomParser._quantifier,
    "BADNUMBER": AtomParser._bad_number,
    "CASE": AtomParser._case,
    "EXISTS": AtomParser._exists,
    "FALSE": AtomParser._constant,
    "FLOAT": AtomParser.number,
    "INTEGER": AtomParser.number,
    "NULL": AtomParser._constant,
    "PARAMETER": AtomParser._parameter,
    "STRING": AtomParser.string,
    "TRUE": AtomParser._constant,
    "[": AtomParser._list,
    "{": AtomParser.map_literal,
}

_SPECIAL_CALLS: Final[dict[str, Callable[[AtomParser], Expression]]] = {
    "ALLSHORTESTPATHS": AtomParser._shortest,
    "ANY": AtomParser._quantifier,
    "COUNT": AtomParser._count,
    "EXTRACT": AtomParser._extract_or_filter,
    "FILTER": AtomParser._extract_or_filter,
    "NONE": AtomParser._quantifier,
    "REDUCE": AtomParser._reduce,
    "SHORTESTPATH": AtomParser._shortest,
    "SINGLE": AtomParser._quantifier,
}
