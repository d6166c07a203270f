"""SHOW commands as queries: a procedure that gives the rows, and what YIELD, WHERE, RETURN say."""

from __future__ import annotations

from graph.cypher.syntax import (
    CallProcedure,
    Clause,
    Projection,
    ProjectionItem,
    Query,
    Return,
    ShowCommand,
    SingleQuery,
    Variable,
)
from graph.errors import CypherSemanticError

__all__ = ["procedure_name", "show_query"]


def procedure_name(command: ShowCommand) -> str:
    """The name of the procedure that gives the rows; no client can register such a name."""
    return f"@show {command.what}"


def show_query(command: ShowCommand, columns: tuple[str, ...]) -> Query:
    """The command as ``CALL ... YIELD ... WHERE ... RETURN ...``.

    Raises:
        CypherSemanticError: YIELD names a column that the command does not have.
    """
    yields = command.yields or tuple((column, column) for column in columns)
    for column, _ in yields:
        if column not in columns:
            raise CypherSemanticError(
                f"Variable `{column}` not defined: SHOW {command.what.upper()} has the columns"
                f" {', '.join(columns)}",
                detail="UndefinedVariable",
            )
    projection = command.returns
    if projection is None:
        items = tuple(ProjectionItem(Variable(name), name, True) for _, name in yields)
        projection = Projection(items, False, False, (), None, None)
    clauses: tuple[Clause, ...] = (
        CallProcedure(procedure_name(command), (), yields, command.where),
        Return(projection),
    )
    return Query((SingleQuery(clauses),), (), command.mode)
