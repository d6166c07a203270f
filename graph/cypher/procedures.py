"""Built-in procedures: what clients ask for when they connect, and what browsers show.

A procedure takes values and gives rows; it reads the root and changes nothing. An engine may be
given more of them than the built-in ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from graph.errors import CypherSemanticError

__all__ = ["BUILT_IN", "Procedure", "Procedures", "find_procedure"]

NOT_FOUND = "Neo.ClientError.Procedure.ProcedureNotFound"
# What drivers and tools read to know which dialect is spoken. The Neo4j version whose Cypher and
# procedures this engine follows.
COMPATIBLE_VERSION = "5.26.0"

Rows = Iterable[tuple[Any, ...]]


@dataclass(frozen=True)
class Procedure:
    """``run(root, arguments)`` gives rows with one value for each of ``outputs``.

    ``inputs`` and ``outputs`` are (name, kind) pairs; kinds as in ``analysis_kinds``.
    """

    name: str
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    run: Callable[[Any, tuple[Any, ...]], Rows]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.outputs)


Procedures = Mapping[str, Procedure]


def _labels(root: Any, arguments: tuple[Any, ...]) -> Rows:
    return [(name,) for name in root.labels()]


def _types(root: Any, arguments: tuple[Any, ...]) -> Rows:
    return [(name,) for name in root.types()]


def _keys(root: Any, arguments: tuple[Any, ...]) -> Rows:
    return [(name,) for name in root.keys()]  # noqa: SIM118 - not a dictionary


def _components(root: Any, arguments: tuple[Any, ...]) -> Rows:
    return [("Neo4j Kernel", [COMPATIBLE_VERSION], "community")]


def _ping(root: Any, arguments: tuple[Any, ...]) -> Rows:
    return [(True,)]


def _procedures(root: Any, arguments: tuple[Any, ...]) -> Rows:
    return [(name, False, "", False) for name in sorted(BUILT_IN)]


BUILT_IN: Procedures = {
    procedure.name: procedure
    for procedure in (
        Procedure("db.labels", (), (("label", "string"),), _labels),
        Procedure("db.relationshipTypes", (), (("relationshipType", "string"),), _types),
        Procedure("db.propertyKeys", (), (("propertyKey", "string"),), _keys),
        Procedure(
            "dbms.components",
            (),
            (("name", "string"), ("versions", "list of string"), ("edition", "string")),
            _components,
        ),
        Procedure("db.ping", (), (("success", "boolean"),), _ping),
        Procedure(
            "mg.procedures",
            (),
            (
                ("name", "string"),
                ("is_write", "boolean"),
                ("signature", "string"),
                ("is_editable", "boolean"),
            ),
            _procedures,
        ),
    )
}


def find_procedure(procedures: Procedures, name: str) -> Procedure:
    """The procedure of that name.

    Raises:
        CypherSemanticError: with the code ProcedureNotFound.
    """
    procedure = procedures.get(name)
    if procedure is None:
        raise CypherSemanticError(
            f"There is no procedure with the name `{name}` registered for this database instance."
            " Please ensure you've spelled the procedure name correctly.",
            detail="ProcedureNotFound",
            code=NOT_FOUND,
        )
    return procedure
