"""Semantic analysis: what the grammar cannot say, checked before anything runs.

:func:`analyse` walks the clauses in order with a *scope*: the variables that exist, each with what
is known of its value (``analysis_kinds``). A clause reads the scope, may add to it, and WITH
replaces it. Each file has one subject: expressions, patterns, projections, and here the clauses
and how they may follow one another.

Errors are ``CypherSemanticError`` with a message in Neo4j's manner and ``detail``, the name that
the openCypher TCK gives the error. Where a fault can only be seen with values in hand (a parameter
of the wrong type, a negative LIMIT from a parameter) it is left to the run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from graph.cypher import syntax
from graph.cypher.analysis_base import ProcedureSignature, Scope
from graph.cypher.analysis_expressions import Aggregation
from graph.cypher.analysis_kinds import ANY, element, family, is_one_of, shown
from graph.cypher.analysis_projections import ProjectionAnalysis
from graph.cypher.syntax import (
    CallProcedure,
    Clause,
    Create,
    Delete,
    HasLabels,
    Match,
    Merge,
    Query,
    Remove,
    RemoveLabels,
    Return,
    SchemaCommand,
    Set,
    SetLabels,
    SetProperties,
    SetProperty,
    ShowCommand,
    SingleQuery,
    Statement,
    Unwind,
    With,
)

__all__ = ["Access", "Analysed", "ProcedureSignature", "analyse"]

_UPDATING: Final = (Create, Merge, Set, Remove, Delete)
_READING: Final = (Match, Unwind, CallProcedure)
_ENTITY: Final = frozenset({"node", "relationship"})
_DELETABLE: Final = frozenset({"node", "relationship", "path"})
_NODE: Final = frozenset({"node"})
_SETTABLE: Final = frozenset({"map", "node", "relationship"})
_NUMBER_FAMILIES: Final = {"float": frozenset({"float", "integer"})}


class Access(Enum):
    """What a statement does to the graph."""

    READ = "read"
    WRITE = "write"
    SCHEMA = "schema"
    SHOW = "show"


@dataclass(frozen=True, slots=True)
class Analysed:
    """A statement that means something.

    ``columns``: names of the result columns, in order (none for a statement that returns nothing,
    and for SHOW without YIELD, whose columns are fixed elsewhere). ``parameters``: names of all
    parameters used, those of lifted literals included.
    """

    statement: Statement
    columns: tuple[str, ...]
    access: Access
    parameters: frozenset[str]


def analyse(
    statement: Statement,
    text: str = "",
    *,
    functions: Collection[str] | None = None,
    procedures: Mapping[str, ProcedureSignature] | None = None,
    literals: Mapping[str, Any] | None = None,
) -> Analysed:
    """Check a statement.

    :param text: what ``statement`` was parsed from; with it errors show the place.
    :param functions: names of all functions, in lower case; ``None``: any name will do.
    :param procedures: signatures by name; ``None``: procedures are not checked.
    :param literals: what ``normalise`` has lifted out of the text; its types are checked as those
        of literals in their place would be.
    :raises CypherSemanticError: the statement means nothing.
    """
    analysis = _Analysis(text, functions, procedures, literals or {})
    if isinstance(statement, SchemaCommand):
        return Analysed(statement, (), Access.SCHEMA, frozenset())
    if isinstance(statement, ShowCommand):
        columns = analysis.show(statement)
        return Analysed(statement, columns, Access.SHOW, frozenset(analysis.parameters))
    columns = analysis.query(statement, {}, False)
    access = Access.WRITE if analysis.writes else Access.READ
    return Analysed(statement, columns, access, frozenset(analysis.parameters))


class _Analysis(ProjectionAnalysis):
    """Checks clauses and queries."""

    def __init__(
        self,
        text: str,
        functions: Collection[str] | None,
        procedures: Mapping[str, ProcedureSignature] | None,
        literals: Mapping[str, Any],
    ) -> None:
        super().__init__(text, functions, procedures, literals)
        self.writes = False
        # Of the query being walked: its variables, those from around it, and its columns so far.
        self.scope: Scope = {}
        self.imported: Scope = {}
        self.columns: tuple[str, ...] = ()
        self.standalone = False

    # ------------------------------------------------------------------ queries

    def query(self, query: Query, imported: Scope, subquery: bool) -> tuple[str, ...]:
        """Check a query, or a subquery that sees the variables ``imported``."""
        if len(set(query.union_all)) > 1:
            self.fail(
                "InvalidClauseComposition",
                "Invalid combination of UNION and UNION ALL: use one of them",
                query.parts[-1].clauses[0].position,
            )
        first: tuple[str, ...] | None = None
        for part in query.parts:
            self.standalone = len(query.parts) == len(part.clauses) == 1 and not subquery
            columns = self._single_query(part, imported, subquery)
            if first is None:
                first = columns
            elif set(columns) != set(first):
                self.fail(
                    "DifferentColumnsInUnion",
                    "All sub queries in an UNION must have the same return column names",
                    part.clauses[-1].position,
                )
        return first or ()

    def _single_query(self, part: SingleQuery, imported: Scope, subquery: bool) -> tuple[str, ...]:
        self.scope = self.merged(imported)
        self.imported = imported
        self.columns = ()
        self._check_composition(part.clauses, subquery)
        for clause in part.clauses:
            _CLAUSES[type(clause)](self, clause)
        return self.columns

    def check_subquery(self, query: Query, scope: Scope) -> None:
        saved = (self.scope, self.imported, self.columns, self.aggregation, self.aggregates)
        self.aggregation = Aggregation.MISPLACED
        self.query(query, scope, True)
        self.scope, self.imported, self.columns, self.aggregation, self.aggregates = saved

    def _check_composition(self, clauses: tuple[Clause, ...], subquery: bool) -> None:
        updated: Clause | None = None
        for clause in clauses:
            if isinstance(clause, _UPDATING):
                if subquery:
                    self.fail(
                        "InvalidClauseComposition",
                        "A subquery of EXISTS or COUNT cannot contain an updating clause",
                        clause.position,
                    )
                updated = clause
                self.writes = True
            elif isinstance(clause, With):
                updated = None
            elif updated is not None and isinstance(clause, _READING):
                self.fail(
                    "InvalidClauseComposition",
                    f"WITH is required between {_name(updated)} and {_name(clause)}",
                    clause.position,
                )
        last = clauses[-1]
        concludes = isinstance(last, (Return, *_UPDATING)) or subquery
        if isinstance(last, CallProcedure):
            concludes = concludes or self.standalone or not last.yields
        if not concludes:
            self.fail(
                "InvalidClauseComposition",
                f"Query cannot conclude with {_name(last)} (must be a RETURN clause, "
                "an updating clause or a procedure call on its own)",
                last.position,
            )

    # ------------------------------------------------------------------ reading clauses

    def _match(self, clause: Match) -> None:
        self.match_patterns(clause.patterns, self.scope)
        self.condition(clause.where, self.scope)

    def _unwind(self, clause: Unwind) -> None:
        kind = self.kind_of(clause.source, self.scope)
        # A value that is no list is taken as a list of itself.
        each = element(kind) if is_one_of(kind, frozenset({"list"})) else kind
        self.bind(self.scope, clause.variable, each, clause.position)

    def _with(self, clause: With) -> None:
        columns = self.projection(clause, self.scope, self.imported)
        self.scope = self.merged(self.imported, columns)

    def _return(self, clause: Return) -> None:
        columns = self.projection(clause, self.scope, self.imported)
        self.scope = columns
        self.columns = tuple(columns)

    def _call_procedure(self, clause: CallProcedure) -> None:
        signature = self.procedure(clause.name, clause.position)
        kinds = [self.kind_of(argument, self.scope) for argument in clause.arguments or ()]
        if signature is not None:
            self._check_arguments(clause, signature, kinds)
            self.writes = self.writes or signature.writes
        outputs = dict(signature.outputs) if signature is not None else {}
        if clause.yields is not None:
            for column, name in clause.yields:
                if signature is not None and column not in outputs:
                    self.fail(
                        "UndefinedVariable",
                        f"Unknown procedure output: `{column}`",
                        clause.position,
                    )
                self.bind(self.scope, name, outputs.get(column, ANY), clause.position)
        elif self.standalone:
            self.scope.update(outputs)
        self.condition(clause.where, self.scope)
        if self.standalone:
            self.columns = tuple(self.scope)

    def _check_arguments(
        self, clause: CallProcedure, signature: ProcedureSignature, kinds: list[str]
    ) -> None:
        inputs = signature.inputs
        if clause.arguments is None:
            if self.standalone:
                self.parameters.update(name for name, _ in inputs)
            elif inputs:
                self.fail(
                    "InvalidArgumentPassingMode",
                    "Procedure call inside a query does not support passing arguments "
                    "implicitly: write them in parentheses",
                    clause.position,
                )
            return
        if len(kinds) != len(inputs):
            self.fail(
                "InvalidNumberOfArguments",
                f"Procedure {clause.name} takes {len(inputs)} argument(s), not {len(kinds)}",
                clause.position,
            )
        for argument, kind, (_, wanted) in zip(clause.arguments, kinds, inputs, strict=True):
            allowed = _NUMBER_FAMILIES.get(wanted, frozenset({family(wanted)}))
            if wanted != ANY and not is_one_of(kind, allowed):
                self.mismatch(argument, kind, shown(wanted))

    # ------------------------------------------------------------------ updating clauses

    def _create(self, clause: Create) -> None:
        self.create_patterns(clause.patterns, self.scope, "CREATE")

    def _merge(self, clause: Merge) -> None:
        self.create_patterns((clause.pattern,), self.scope, "MERGE")
        for item in (*clause.on_create, *clause.on_match):
            self._set_item(item)

    def _set(self, clause: Set) -> None:
        for item in clause.items:
            self._set_item(item)

    def _set_item(self, item: syntax.SetItem) -> None:
        if isinstance(item, SetProperty):
            kind = self.kind_of(item.subject, self.scope)
            self._expect(kind, _ENTITY, item.subject.position)
            self.kind_of(item.value, self.scope)
        elif isinstance(item, SetProperties):
            self._expect(self._variable_kind(item.variable, item.position), _ENTITY, item.position)
            kind = self.kind_of(item.value, self.scope)
            self._expect(kind, _SETTABLE, item.value.position)
        else:
            self._labels(item)

    def _labels(self, item: SetLabels | RemoveLabels) -> None:
        self._expect(self._variable_kind(item.variable, item.position), _NODE, item.position)

    def _remove(self, clause: Remove) -> None:
        for item in clause.items:
            if isinstance(item, RemoveLabels):
                self._labels(item)
            else:
                kind = self.kind_of(item.subject, self.scope)
                self._expect(kind, _ENTITY, item.subject.position)

    def _delete(self, clause: Delete) -> None:
        for expression in clause.expressions:
            if isinstance(expression, HasLabels):
                self.fail(
                    "InvalidDelete",
                    "DELETE does not support removing labels from a node: use REMOVE",
                    expression.position,
                )
            kind = self.kind_of(expression, self.scope)
            self._expect(kind, _DELETABLE, expression.position)

    def _variable_kind(self, name: str, position: int) -> str:
        kind = self.scope.get(name)
        if kind is None:
            self.undefined(name, position)
        return kind

    def _expect(self, kind: str, allowed: frozenset[str], position: int) -> None:
        if not is_one_of(kind, allowed):
            wanted = " or ".join(shown(each) for each in sorted(allowed))
            self.fail(
                "InvalidArgumentType",
                f"Type mismatch: expected {wanted} but was {shown(kind)}",
                position,
            )

    # ------------------------------------------------------------------ SHOW

    def show(self, command: ShowCommand) -> tuple[str, ...]:
        """Check what follows SHOW, as far as the columns are named, and give the column names."""
        if command.yields is None:
            return ()
        for column, name in command.yields:
            del column
            self.bind(self.scope, name, ANY, -1)
        self.condition(command.where, self.scope)
        if command.returns is None:
            return tuple(self.scope)
        return tuple(self.projection(Return(command.returns), self.scope, {}))


def _name(clause: Clause) -> str:
    if isinstance(clause, Match):
        return "OPTIONAL MATCH" if clause.optional else "MATCH"
    if isinstance(clause, CallProcedure):
        return "CALL"
    return type(clause).__name__.upper()


_CLAUSES: Final[dict[type, Callable[[_Analysis, Any], None]]] = {
    CallProcedure: _Analysis._call_procedure,
    Create: _Analysis._create,
    Delete: _Analysis._delete,
    Match: _Analysis._match,
    Merge: _Analysis._merge,
    Remove: _Analysis._remove,
    Return: _Analysis._return,
    Set: _Analysis._set,
    Unwind: _Analysis._unwind,
    With: _Analysis._with,
}
