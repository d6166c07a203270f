"""Clauses and statements: the top of the parser, and its public face.

:func:`parse` turns text into a tree or raises ``CypherSyntaxError`` with the place shown. The
parser knows the grammar only. What needs scopes or meaning (undefined variables, misplaced
aggregates, what CREATE allows in a pattern) is left to ``analysis``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from graph.cypher.lexer import syntax_error, tokenize
from graph.cypher.parser_schema import SchemaParser
from graph.cypher.syntax import (
    CallProcedure,
    Clause,
    Create,
    Delete,
    Expression,
    HasLabels,
    Match,
    Merge,
    Mode,
    Projection,
    ProjectionItem,
    Property,
    Query,
    Remove,
    RemoveLabels,
    RemoveProperty,
    Return,
    Set,
    SetItem,
    SetLabels,
    SetProperties,
    SetProperty,
    SingleQuery,
    SortItem,
    Statement,
    Unwind,
    Variable,
    With,
)

__all__ = ["parse"]

_UNSUPPORTED: Final = {
    "FOREACH": "FOREACH is not supported: use UNWIND",
    "LOAD": "LOAD CSV is not supported: read the file in the client and pass rows as a parameter",
    "USE": "USE is not supported: there is one database",
    "START": "START is not supported: use MATCH",
}


def parse(text: str) -> Statement:
    """The tree of one statement.

    :param text: one statement; a semicolon may follow it. At most ``lexer.TEXT_CHARS_MAX``
        characters.
    :raises CypherSyntaxError: the text is no statement. The message says what was found and
        what was expected, and shows the place; ``detail`` is the openCypher TCK's name.

    Grammar: openCypher 9, and the schema commands of Neo4j 5 and Memgraph.
    """
    tokens = tokenize(text)
    try:
        return _Parser(tokens).statement()
    except RecursionError:
        # The limit on nesting fires long before, unless the caller has used up the stack itself.
        raise syntax_error(
            text, 0, "The query is nested too deeply", detail="NestedTooDeeply"
        ) from None


class _Parser(SchemaParser):
    """The whole parser."""

    def statement(self) -> Statement:
        mode = Mode.RUN
        if self.kinds[self.at] in ("EXPLAIN", "PROFILE"):
            mode = Mode[self.kinds[self.at]]
            self.at += 1
        statement = self.schema_statement(mode) or self._query(mode)
        if self.accept(";"):
            while self.accept(";"):
                pass
            if self.kinds[self.at] != "EOF":
                self.error("Several statements in one text: send them one at a time")
        if self.kinds[self.at] != "EOF":
            self._fail_at_end(statement)
        return statement

    def _fail_at_end(self, statement: Statement) -> None:
        if not isinstance(statement, Query):
            self.fail("the end of the command")
        clauses = statement.parts[-1].clauses
        if isinstance(clauses[-1], Return):
            if self.kinds[self.at] in _CLAUSES:
                self.error(
                    "RETURN can only be used at the end of the query",
                    detail="InvalidClauseComposition",
                )
            self.fail("an operator", "','", "ORDER BY", "SKIP", "LIMIT", "UNION", "end of input")
        self._check_supported()
        self.fail("an operator", "a clause such as MATCH, SET or RETURN", "end of input")

    # ------------------------------------------------------------------ queries

    def query(self) -> Query:
        return self._query(Mode.RUN)

    def _query(self, mode: Mode) -> Query:
        parts = [self._single_query()]
        union_all: list[bool] = []
        while self.accept("UNION"):
            union_all.append(self.accept("ALL"))
            parts.append(self._single_query())
        return Query(tuple(parts), tuple(union_all), mode)

    def _single_query(self) -> SingleQuery:
        kinds = self.kinds
        clauses: list[Clause] = []
        while True:
            at = self.at
            reader = _CLAUSES.get(kinds[at])
            if reader is None:
                break
            self.at = at + 1
            clause = reader(self, self.starts[at])
            clauses.append(clause)
            if isinstance(clause, Return):
                break
        if not clauses:
            self._check_supported()
            self.fail("a clause such as MATCH, CREATE, MERGE, UNWIND, WITH, CALL or RETURN")
        if self._yield_star is not None and len(clauses) > 1:
            self.error(
                "YIELD * can only be used where the procedure is called on its own: "
                "name the columns",
                at=self._yield_star,
            )
        return SingleQuery(tuple(clauses))

    def _check_supported(self) -> None:
        message = _UNSUPPORTED.get(self.values[self.at].upper())
        if message is not None:
            self.error(message)

    # ------------------------------------------------------------------ reading clauses

    def _where(self) -> Expression | None:
        return self.expression() if self.accept("WHERE") else None

    def _match(self, position: int) -> Clause:
        return Match(self.patterns(), self._where(), False, position=position)

    def _optional_match(self, position: int) -> Clause:
        self.expect("MATCH")
        return Match(self.patterns(), self._where(), True, position=position)

    def _unwind(self, position: int) -> Clause:
        source = self.expression()
        if not self.accept("AS"):
            self.fail("an operator", "AS")
        return Unwind(source, self.any_name("a variable"), position=position)

    def _with(self, position: int) -> Clause:
        projection = self.projection()
        return With(projection, self._where(), position=position)

    def _return(self, position: int) -> Clause:
        return Return(self.projection(), position=position)

    def projection(self) -> Projection:
        distinct = self.accept("DISTINCT")
        star = self.accept("*")
        items: list[ProjectionItem] = []
        if not star:
            items.append(self._projection_item())
        while self.accept(","):
            items.append(self._projection_item())
        order_by: list[SortItem] = []
        if self.accept("ORDER"):
            self.expect("BY")
            order_by.append(self._sort_item())
            while self.accept(","):
                order_by.append(self._sort_item())
        skip = self.expression() if self.accept("SKIP") else None
        limit = self.expression() if self.accept("LIMIT") else None
        return Projection(tuple(items), star, distinct, tuple(order_by), skip, limit)

    def _projection_item(self) -> ProjectionItem:
        begin = self.at
        expression = self.expression()
        last = self.at - 1
        position = self.starts[begin]
        if self.accept("AS"):
            return ProjectionItem(expression, self.any_name("an alias"), True, position=position)
        if last == begin and isinstance(expression, Variable):
            return ProjectionItem(expression, expression.name, False, position=position)
        written = self.tokens.text[position : self.tokens.ends[last]]
        return ProjectionItem(expression, written, False, position=position)

    def _sort_item(self) -> SortItem:
        expression = self.expression()
        if self.accept("DESC") or self.accept("DESCENDING"):
            return SortItem(expression, True)
        if not self.accept("ASC"):
            self.accept("ASCENDING")
        return SortItem(expression, False)

    def _call_procedure(self, position: int) -> Clause:
        if self.kinds[self.at] == "{":
            self.error("CALL { ... } subqueries are not supported: use WITH, or COUNT { ... }")
        parts = [self.any_name("a procedure name")]
        while self.accept("."):
            parts.append(self.any_name("a procedure name"))
        arguments: tuple[Expression, ...] | None = None
        if self.accept("("):
            arguments = self._arguments()
        yields: tuple[tuple[str, str], ...] | None = None
        where: Expression | None = None
        if self.accept("YIELD"):
            star = self.at
            yields = self.yield_items()
            if yields is None:
                self._yield_star = star
            where = self._where()
        return CallProcedure(".".join(parts), arguments, yields, where, position=position)

    def _arguments(self) -> tuple[Expression, ...]:
        arguments: list[Expression] = []
        if not self.accept(")"):
            arguments.append(self.expression())
            while self.accept(","):
                arguments.append(self.expression())
            if not self.accept(")"):
                self.fail("','", "')'")
        return tuple(arguments)

    # ------------------------------------------------------------------ writing clauses

    def _create(self, position: int) -> Clause:
        return Create(self.patterns(), position=position)

    def _merge(self, position: int) -> Clause:
        pattern = self.path()
        on_create: list[SetItem] = []
        on_match: list[SetItem] = []
        while self.accept("ON"):
            if self.accept("CREATE"):
                items = on_create
            elif self.accept("MATCH"):
                items = on_match
            else:
                self.fail("CREATE", "MATCH")
            self.expect("SET")
            items.extend(self._set_items())
        return Merge(pattern, tuple(on_create), tuple(on_match), position=position)

    def _set(self, position: int) -> Clause:
        return Set(tuple(self._set_items()), position=position)

    def _set_items(self) -> list[SetItem]:
        items = [self._set_item()]
        while self.accept(","):
            items.append(self._set_item())
        return items

    def _set_item(self) -> SetItem:
        at = self.at
        position = self.starts[at]
        if self.is_name():
            follows = self.kinds[at + 1]
            if follows == "=" or follows == "+=":
                variable = self.name("a variable")
                self.at += 1
                return SetProperties(
                    variable, self.expression(), follows == "+=", position=position
                )
            if follows == ":":
                variable = self.name("a variable")
                return SetLabels(variable, self.labels(), position=position)
        subject, key = self._property_target("SET", at)
        self.expect("=")
        return SetProperty(subject, key, self.expression(), position=position)

    def _remove(self, position: int) -> Clause:
        items = [self._remove_item()]
        while self.accept(","):
            items.append(self._remove_item())
        return Remove(tuple(items), position=position)

    def _remove_item(self) -> RemoveProperty | RemoveLabels:
        at = self.at
        position = self.starts[at]
        if self.is_name() and self.kinds[at + 1] == ":":
            return RemoveLabels(self.name("a variable"), self.labels(), position=position)
        subject, key = self._property_target("REMOVE", at)
        return RemoveProperty(subject, key, position=position)

    def _property_target(self, clause: str, at: int) -> tuple[Expression, str]:
        target = self.target()
        if not isinstance(target, Property):
            form = "n.key = value, n = map, n += map" if clause == "SET" else "n.key"
            what = "labels take" if isinstance(target, HasLabels) else "this is"
            hint = "a variable" if isinstance(target, HasLabels) else "no property"
            self.error(f"{clause} takes {form} or n:Label; {what} {hint}", at=at)
        return target.subject, target.key

    def _delete(self, position: int) -> Clause:
        return self._delete_items(False, position)

    def _detach_delete(self, position: int) -> Clause:
        self.expect("DELETE")
        return self._delete_items(True, position)

    def _delete_items(self, detach: bool, position: int) -> Clause:
        expressions = [self.expression()]
        while self.accept(","):
            expressions.append(self.expression())
        return Delete(tuple(expressions), detach, position=position)


_CLAUSES: Final[dict[str, Callable[[_Parser, int], Clause]]] = {
    "CALL": _Parser._call_procedure,
    "CREATE": _Parser._create,
    "DELETE": _Parser._delete,
    "DETACH": _Parser._detach_delete,
    "MATCH": _Parser._match,
    "MERGE": _Parser._merge,
    "OPTIONAL": _Parser._optional_match,
    "REMOVE": _Parser._remove,
    "RETURN": _Parser._return,
    "SET": _Parser._set,
    "UNWIND": _Parser._unwind,
    "WITH": _Parser._with,
}
