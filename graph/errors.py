"""What can go wrong in the engine, and whose fault it is.

::

    GraphError                       carries the Neo4j status code a Bolt client is shown
    ├── CypherError                  the query is wrong; nothing was done
    │   ├── CypherSyntaxError        the text cannot be parsed
    │   └── CypherSemanticError      it parses, but means nothing (undefined variable, ...)
    ├── CypherTypeError              a value has the wrong type at run time
    ├── CypherArgumentError          a value is out of range, a parameter is missing
    ├── ConstraintError              a constraint would be broken; nothing was done
    ├── SchemaError                  an index or constraint exists already, or not at all
    ├── ConflictError                another transaction changed the same data first; retry
    ├── LimitError                   a budget was used up: time, memory, depth, size
    └── CorruptionError              damaged bytes: write set or snapshot image

Every error of this tree says that the statement was *not done*. Unknown outcomes exist only
where there is a network, so they are a matter of ``actors.errors``.
"""

from __future__ import annotations

__all__ = [
    "ConflictError",
    "ConstraintError",
    "CorruptionError",
    "CypherArgumentError",
    "CypherError",
    "CypherSemanticError",
    "CypherSyntaxError",
    "CypherTypeError",
    "GraphError",
    "LimitError",
    "SchemaError",
]


class GraphError(Exception):
    """Base of all engine errors. ``code`` is a Neo4j status code."""

    code = "Neo.DatabaseError.Statement.ExecutionFailed"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class CypherError(GraphError):
    """The query text is wrong. ``detail`` is the openCypher TCK's name of the error."""

    code = "Neo.ClientError.Statement.SyntaxError"

    def __init__(self, message: str, *, detail: str = "", code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.detail = detail


class CypherSyntaxError(CypherError):
    """The text cannot be parsed; the message has a caret under the place."""


class CypherSemanticError(CypherError):
    """The text parses but has no meaning: undefined variable, misplaced aggregate, ..."""


class CypherTypeError(GraphError):
    """A value has the wrong type for the operation at run time."""

    code = "Neo.ClientError.Statement.TypeError"


class CypherArgumentError(GraphError):
    """A value of the right type that the operation cannot take; a missing parameter."""

    code = "Neo.ClientError.Statement.ArgumentError"


class ConstraintError(GraphError):
    """A uniqueness constraint would be broken, or a node to be deleted still has relationships."""

    code = "Neo.ClientError.Schema.ConstraintValidationFailed"


class SchemaError(GraphError):
    """An index or constraint exists already, or is not there."""

    code = "Neo.ClientError.Schema.EquivalentSchemaRuleAlreadyExists"


class ConflictError(GraphError):
    """Another transaction changed the same entity since this one began. Retry is safe."""

    code = "Neo.TransientError.Transaction.Outdated"


class LimitError(GraphError):
    """A budget (time, memory, depth, size) was used up."""

    code = "Neo.TransientError.General.MemoryPoolOutOfMemoryError"


class CorruptionError(GraphError):
    """Damaged or foreign bytes where a write set or a snapshot image was expected."""

    code = "Neo.DatabaseError.General.UnknownError"
