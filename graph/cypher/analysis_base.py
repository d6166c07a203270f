"""What all parts of the analysis share: scopes, errors, parameters and procedures."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from graph.cypher.lexer import locate
from graph.errors import CypherSemanticError

__all__ = ["TYPE_ERROR", "Base", "ProcedureSignature", "Scope"]

# Entries that copying of scopes may write in one analysis. WITH * and subqueries copy what is in
# scope, so a text of a megabyte could ask for billions; a query of a thousand clauses with a
# hundred variables needs a hundred thousand.
SCOPE_ENTRIES_MAX: Final = 5_000_000

# Variables in scope, each with its kind (see ``analysis_kinds``), in order of declaration.
Scope = dict[str, str]

TYPE_ERROR: Final = "Neo.ClientError.Statement.TypeError"
_PROCEDURE_NOT_FOUND: Final = "Neo.ClientError.Procedure.ProcedureNotFound"


@dataclass(frozen=True, slots=True)
class ProcedureSignature:
    """What is known of a procedure: names and kinds of its inputs and outputs, in order."""

    name: str
    inputs: tuple[tuple[str, str], ...] = ()
    outputs: tuple[tuple[str, str], ...] = ()
    writes: bool = False


class Base:
    """The state of one analysis."""

    def __init__(
        self,
        text: str,
        functions: Collection[str] | None,
        procedures: Mapping[str, ProcedureSignature] | None,
        literals: Mapping[str, Any],
    ) -> None:
        self.text = text
        self.functions = functions
        self.procedures = procedures
        self.literals = literals
        self.parameters: set[str] = set()
        self._entries_copied = 0

    def fail(self, detail: str, message: str, position: int, code: str | None = None) -> NoReturn:
        """Refuse the query: ``detail`` is the openCypher TCK's name of the error."""
        if position >= 0 and self.text:
            message = f"{message} {locate(self.text, position)}"
        raise CypherSemanticError(message, detail=detail, code=code)

    def merged(self, *scopes: Scope) -> Scope:
        """A new scope with the variables of all, later kinds winning."""
        result: Scope = {}
        for scope in scopes:
            self._entries_copied += len(scope)
            result.update(scope)
        if self._entries_copied > SCOPE_ENTRIES_MAX:
            self.fail(
                "QueryTooComplex",
                "The query has too many clauses or subqueries for its number of variables: "
                "split it, or pass a list as a parameter and UNWIND it",
                0,
            )
        return result

    def undefined(self, name: str, position: int) -> NoReturn:
        self.fail("UndefinedVariable", f"Variable `{name}` not defined", position)

    def bind(self, scope: Scope, name: str, kind: str, position: int) -> None:
        """Declare a variable that must be new."""
        if name in scope:
            self.fail("VariableAlreadyBound", f"Variable `{name}` already declared", position)
        scope[name] = kind

    def procedure(self, name: str, position: int) -> ProcedureSignature | None:
        """The signature of a procedure; ``None`` where procedures are not checked."""
        if self.procedures is None:
            return None
        found = self.procedures.get(name)
        if found is None:
            self.fail(
                "ProcedureNotFound",
                f"There is no procedure with the name `{name}` registered for this database",
                position,
                _PROCEDURE_NOT_FOUND,
            )
        return found
