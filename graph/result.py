"""Results: rows in columns, counters, and what a Bolt summary says about a statement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from graph.write_set import Counters

__all__ = ["Batch", "Result", "statistics_map"]

# Row count and, for each field, that many Python values (``graph.values``).
Batch = tuple[int, list[list[Any]]]

_STATISTICS = (
    ("nodes-created", "nodes_created"),
    ("nodes-deleted", "nodes_deleted"),
    ("relationships-created", "relationships_created"),
    ("relationships-deleted", "relationships_deleted"),
    ("properties-set", "properties_set"),
    ("labels-added", "labels_added"),
    ("labels-removed", "labels_removed"),
    ("indexes-added", "indexes_added"),
    ("indexes-removed", "indexes_removed"),
    ("constraints-added", "constraints_added"),
    ("constraints-removed", "constraints_removed"),
)


class Result:
    """The result of one statement. Rows can be taken once.

    ``chunks`` of a read may raise any ``GraphError``: the query runs while it is pulled.
    """

    __slots__ = ("_batches", "_describe", "counters", "fields", "profiled", "query_type")

    def __init__(
        self,
        fields: tuple[str, ...],
        batches: Iterator[Batch],
        query_type: str,
        counters: Counters | None = None,
        describe: Callable[[], dict[str, Any]] | None = None,
        profiled: bool = False,
    ) -> None:
        self.fields = fields
        self.query_type = query_type
        self.counters = counters
        # Whether ``plan`` is a profile (with rows) and not only a plan.
        self.profiled = profiled
        self._batches = batches
        self._describe = describe

    def chunks(self) -> Iterator[Batch]:
        """(row count, columns of Python values) until the result is used up."""
        return self._batches

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows that are left, as tuples: for small results and tests."""
        found: list[tuple[Any, ...]] = []
        for count, columns in self._batches:
            found.extend(zip(*columns, strict=True) if columns else [()] * count)
        return found

    @property
    def plan(self) -> dict[str, Any] | None:
        """The plan for EXPLAIN and PROFILE; of a PROFILE it is complete after the last row."""
        return None if self._describe is None else self._describe()

    @property
    def statistics(self) -> dict[str, Any]:
        """Bolt's ``stats``: what was changed; empty if nothing was."""
        return {} if self.counters is None else statistics_map(self.counters)


def statistics_map(counters: Counters) -> dict[str, Any]:
    """Counters under the keys of Bolt's ``stats``, zeros left out."""
    found: dict[str, Any] = {}
    for key, name in _STATISTICS:
        value = getattr(counters, name)
        if value:
            found[key] = value
    if found:
        found["contains-updates"] = True
    return found
