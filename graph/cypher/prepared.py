"""Prepared statements: texts that were parsed, analysed and planned, kept for the next time.

Three levels, each cheaper to miss than the one below it to recompute:

* exact text -> ``Prepared``;
* text with its literals lifted out -> ``Shape``: tree and analysis, shared by all texts that differ
  in literals only;
* schema and magnitude of the graph -> ``Executable``: the plan and its operators.

All are immutable once made and shared by threads; the caches are bounded.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graph.cypher.analysis import Analysed
from graph.cypher.compiler import compile_plan
from graph.cypher.operators.base import Operator
from graph.cypher.plan import Plan
from graph.cypher.planner import plan_query
from graph.cypher.procedures import Procedures
from graph.cypher.rules import rewrite_plan
from graph.cypher.rules.batching import batchable
from graph.cypher.rules.steps import one_step
from graph.cypher.statistics import graph_magnitude, schema_key, statistics_of
from graph.cypher.syntax import Mode, Query, SchemaCommand
from graph.indexes import Schema
from graph.store import Root

__all__ = ["Executable", "Prepared", "Shape"]

# Plans kept for one shape: a server sees few different schemas at one time (its committed and
# its speculative root, and those of open transactions).
_EXECUTABLES_MAX = 4


@dataclass(frozen=True, slots=True)
class Executable:
    """A plan for one state of the schema, ready to run."""

    plan: Plan
    operator: Operator
    fields: tuple[str, ...]
    # Whether one run may serve many requests (``rules/batching.py``).
    batchable: bool
    # Whether it writes in at most one step and cannot fail after it (``rules/steps.py``).
    one_step: bool


class Shape:
    """A statement with its literals lifted out."""

    __slots__ = ("_executables", "_latest", "_procedures", "analysed", "statement")

    def __init__(self, analysed: Analysed, procedures: Procedures) -> None:
        self.analysed = analysed
        self.statement = analysed.statement
        self._procedures = procedures
        self._executables: dict[Hashable, Executable] = {}
        self._latest: tuple[weakref.ref[Schema], Hashable, Executable] | None = None

    def executable(self, root: Root) -> Executable:
        """The plan for a root, made now if there is none yet that fits."""
        latest = self._latest
        magnitude = graph_magnitude(root)
        if latest is not None and latest[0]() is root.schema and latest[1] == magnitude:
            return latest[2]
        epoch = (magnitude, schema_key(root))
        found = self._executables.get(epoch)
        if found is None:
            found = self._plan(root)
            while len(self._executables) >= _EXECUTABLES_MAX:
                # Another thread may have removed it just now.
                self._executables.pop(next(iter(self._executables), None), None)
            self._executables[epoch] = found
        # A weak reference: an index that was dropped must not live on in a cache of plans.
        self._latest = (weakref.ref(root.schema), magnitude, found)
        return found

    def _plan(self, root: Root) -> Executable:
        assert isinstance(self.statement, Query)
        planned = plan_query(self.statement, statistics_of(root), self._procedures)
        plan = rewrite_plan(planned.plan, planned.fields)
        return Executable(
            plan,
            compile_plan(plan, self._procedures),
            planned.fields,
            batchable(plan, returns=bool(planned.fields)),
            one_step(plan),
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that can be run with parameters.

    ``kind``: ``read``, ``write``, ``schema`` or ``show``. ``literals`` are merged into the
    parameters of a run. ``show`` says what a SHOW command asks for (``raft info``); the caller
    answers what ``local`` does not say the engine can.
    """

    shape: Shape
    kind: str
    fields: tuple[str, ...]
    mode: Mode
    literals: Mapping[str, Any] = field(default_factory=dict)
    show: str | None = None
    local: bool = True
    may_batch: bool = False

    @property
    def plan_key(self) -> Hashable:
        """Equal for statements that share a plan."""
        return self.shape

    @property
    def batchable(self) -> bool:
        """Whether requests with equal ``plan_key`` may be worth running together."""
        return self.may_batch

    @property
    def query_type(self) -> str:
        """Bolt's ``type``: r, w, rw or s."""
        if self.kind == "schema":
            return "s"
        if self.kind == "write":
            return "rw" if self.fields else "w"
        return "r"

    @property
    def schema_command(self) -> SchemaCommand:
        command = self.shape.statement
        assert isinstance(command, SchemaCommand)
        return command
