"""The face of the engine: prepare a statement, run it in a transaction, read its result.

    engine = Engine()
    prepared = engine.prepare("MATCH (n:User {id: $id}) RETURN n.name")
    transaction = Transaction(engine, root, allocator, now=now, random=random)
    result = transaction.run(prepared, {"id": 1})
    for count, columns in result.chunks(): ...

An ``Engine`` holds nothing but caches; any number of threads may use it. A ``Transaction`` belongs
to one thread at a time. It runs statements over one root, changes that root as it goes, and gathers
``write_set``, which is what others apply. Results of reads are lazy: cursors over a root that
nobody changes any more, so they may be pulled later and in another thread. A write runs to its end
in ``run`` and holds its rows. If a write comes while cursors are open, the transaction goes on with
a fork of its root and leaves the old one to them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from neo4j.time import DateTime

from graph.batch import BatchOutcome, run_batch
from graph.cypher.analysis import Access, Analysed, analyse
from graph.cypher.analysis_base import ProcedureSignature
from graph.cypher.budget import QueryLimits
from graph.cypher.functions.registry import known_names
from graph.cypher.normalise import normalise
from graph.cypher.parser import parse
from graph.cypher.plan import HIDDEN
from graph.cypher.prepared import Prepared, Shape
from graph.cypher.procedures import BUILT_IN, Procedure, Procedures
from graph.cypher.schema import SHOW_COLUMNS, show_procedure
from graph.cypher.show import procedure_name, show_query
from graph.cypher.syntax import Mode, Query, ShowCommand
from graph.errors import CypherError, CypherSemanticError
from graph.result import Result
from graph.store import Root
from graph.transaction import Transaction

if TYPE_CHECKING:
    from random import Random

__all__ = [
    "BatchOutcome",
    "Engine",
    "Prepared",
    "QueryLimits",
    "Result",
    "Transaction",
    "run_batch",
]

_TEXTS_MAX = 1_000
_SHAPES_MAX = 1_000
# Longer texts are not kept: 1,000 of the longest that the parser takes would fill a gibibyte.
_KEPT_CHARS_MAX = 16_384


class Engine:
    """Prepares statements. Thread-safe."""

    def __init__(self, procedures: Procedures | None = None) -> None:
        """``procedures``: what can be called besides the built-in ones."""
        shown = {f"@show {what}": show_procedure(what) for what in SHOW_COLUMNS}
        self._procedures: dict[str, Procedure] = {**BUILT_IN, **(procedures or {}), **shown}
        self._signatures = {
            name: ProcedureSignature(name, procedure.inputs, procedure.outputs)
            for name, procedure in self._procedures.items()
        }
        self._functions = known_names()
        self._lock = threading.Lock()
        self._texts: OrderedDict[str, Prepared] = OrderedDict()
        self._shapes: OrderedDict[str, Prepared] = OrderedDict()

    def prepare(self, text: str) -> Prepared:
        """A statement ready to run.

        Raises:
            CypherError: the text is wrong; the message shows where.
        """
        with self._lock:
            found = self._texts.get(text)
            if found is not None:
                self._texts.move_to_end(text)
                return found
        prepared = self._prepare(text)
        if len(text) <= _KEPT_CHARS_MAX:
            with self._lock:
                self._texts[text] = prepared
                if len(self._texts) > _TEXTS_MAX:
                    self._texts.popitem(last=False)
        return prepared

    def _prepare(self, text: str) -> Prepared:
        key, literals = normalise(text)
        with self._lock:
            known = self._shapes.get(key)
            if known is not None:
                self._shapes.move_to_end(key)
        if known is None:
            try:
                known = self._make(key, literals)
            except CypherError:
                if not literals:
                    raise
                # The error must show the client's own text; or it depends on the literals.
                return self._make(text, {})
            if len(key) <= _KEPT_CHARS_MAX:
                with self._lock:
                    self._shapes[key] = known
                    if len(self._shapes) > _SHAPES_MAX:
                        self._shapes.popitem(last=False)
        return replace(known, literals=literals) if literals else known

    def _make(self, text: str, literals: Mapping[str, Any]) -> Prepared:
        statement = parse(text)
        if "`" + HIDDEN in text:
            _refuse_hidden(statement)
        show: str | None = None
        local = True
        if isinstance(statement, ShowCommand):
            show = statement.what
            local = show in SHOW_COLUMNS
            if not local:
                return self._foreign_show(statement)
            statement = show_query(statement, SHOW_COLUMNS[show])
        analysed = analyse(
            statement,
            text,
            functions=self._functions,
            procedures=self._signatures,
            literals=literals,
        )
        shape = Shape(analysed, self._procedures)
        mode = statement.mode
        kind = "show" if show is not None else analysed.access.value
        may_batch = isinstance(statement, Query) and show is None and mode is Mode.RUN
        return Prepared(shape, kind, analysed.columns, mode, {}, show, True, may_batch)

    def _foreign_show(self, command: ShowCommand) -> Prepared:
        """A SHOW command that the caller answers: see ``show``."""
        analysed = Analysed(command, (), Access.SHOW, frozenset())
        shape = Shape(analysed, self._procedures)
        return Prepared(shape, "show", (), command.mode, {}, command.what, False, False)

    def show(
        self,
        prepared: Prepared,
        columns: tuple[str, ...],
        rows: Sequence[tuple[Any, ...]],
        root: Root,
        *,
        now: DateTime,
        random: Random,
        parameters: Mapping[str, Any] | None = None,
    ) -> Result:
        """The result of a SHOW command whose rows the caller knows (``prepared.local`` is false).

        YIELD, WHERE and RETURN of the command are applied to ``rows``.

        Raises:
            CypherError: YIELD names a column that is not among ``columns``.
        """
        command = prepared.shape.statement
        assert isinstance(command, ShowCommand), "only for SHOW commands"
        name = procedure_name(command)
        outputs = tuple((column, "any") for column in columns)
        procedure = Procedure(name, (), outputs, lambda root, arguments: rows)
        analysed = analyse(show_query(command, columns), functions=self._functions)
        shape = Shape(analysed, {name: procedure})
        query = Prepared(
            shape, "show", analysed.columns, prepared.mode, prepared.literals, command.what
        )
        transaction = Transaction(self, root, None, now=now, random=random, read_only=True)
        return transaction.run(query, parameters)


def _refuse_hidden(node: Any) -> None:
    """Names that begin with @ are the engine's own, where they name variables or columns.

    Raises:
        CypherSemanticError: the statement has such a name.
    """
    if isinstance(node, tuple):
        for part in node:
            _refuse_hidden(part)
    elif is_dataclass(node) and not isinstance(node, type):
        for item in fields(node):
            value = getattr(node, item.name)
            if item.name in ("name", "variable", "accumulator") and isinstance(value, str):
                if value.startswith(HIDDEN):
                    raise CypherSemanticError(
                        f"The name `{value}` cannot be used: names of variables and columns must"
                        f" not begin with {HIDDEN}",
                        detail="UnexpectedSyntax",
                    )
            else:
                _refuse_hidden(value)
