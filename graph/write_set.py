"""Write sets: what a transaction changes, as a list of columnar operations.

A write set is the only thing that changes a root (``Root.apply``) and the only thing that is
replicated. Operations are applied in order; names are text and ids explicit, so a write set means
the same on every server. The executor fills one with the builder methods of :class:`WriteSet`;
``write_set_codec.py`` turns it into bytes and back.

Arrays and vectors handed in are kept, not copied: the caller must not change them afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from graph.distinct import distinct, without
from graph.errors import CypherArgumentError, GraphError, LimitError
from graph.indexes import ConstraintSpec, IndexSpec
from graph.keys import check_storable
from graph.limits import NAME_BYTES_MAX, OPERATION_ROWS_MAX, WRITE_SET_OPERATIONS_MAX
from graph.vector import IntArray, Kind, Vector

__all__ = [
    "AddLabel",
    "Counters",
    "CreateConstraint",
    "CreateIndex",
    "CreateNodes",
    "CreateRelationships",
    "DeleteNodes",
    "DeleteRelationships",
    "DropConstraint",
    "DropIndex",
    "Operation",
    "RemoveLabel",
    "SchemaOperation",
    "SetNodeProperty",
    "SetRelationshipProperty",
    "WriteSet",
]

_NO_IDS: IntArray = np.empty(0, dtype=np.int64)


@dataclass(slots=True)
class Counters:
    """What a write set changed, for the query's summary."""

    nodes_created: int = 0
    nodes_deleted: int = 0
    relationships_created: int = 0
    relationships_deleted: int = 0
    properties_set: int = 0
    labels_added: int = 0
    labels_removed: int = 0
    indexes_added: int = 0
    indexes_removed: int = 0
    constraints_added: int = 0
    constraints_removed: int = 0

    def add(self, other: Counters) -> None:
        """Add the counts of another write set."""
        for name in Counters.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class CreateNodes:
    """New nodes that share a set of labels. A null property is an absent one."""

    ids: IntArray
    labels: tuple[str, ...]
    properties: dict[str, Vector]


@dataclass(slots=True)
class CreateRelationships:
    """New relationships of one type."""

    ids: IntArray
    type: str
    sources: IntArray
    targets: IntArray
    properties: dict[str, Vector]


@dataclass(slots=True)
class SetNodeProperty:
    """New values of one property; null removes it. Of a repeated id the last value counts."""

    ids: IntArray
    key: str
    values: Vector


@dataclass(slots=True)
class SetRelationshipProperty:
    """New values of one property; null removes it. Of a repeated id the last value counts."""

    ids: IntArray
    key: str
    values: Vector


@dataclass(slots=True)
class AddLabel:
    ids: IntArray
    label: str


@dataclass(slots=True)
class RemoveLabel:
    ids: IntArray
    label: str


@dataclass(slots=True)
class DeleteNodes:
    ids: IntArray


@dataclass(slots=True)
class DeleteRelationships:
    ids: IntArray


@dataclass(slots=True)
class CreateIndex:
    spec: IndexSpec
    if_not_exists: bool


@dataclass(slots=True)
class DropIndex:
    name: str
    if_exists: bool


@dataclass(slots=True)
class CreateConstraint:
    spec: ConstraintSpec
    if_not_exists: bool


@dataclass(slots=True)
class DropConstraint:
    name: str
    if_exists: bool


SchemaOperation = CreateIndex | DropIndex | CreateConstraint | DropConstraint
Operation = (
    CreateNodes
    | CreateRelationships
    | SetNodeProperty
    | SetRelationshipProperty
    | AddLabel
    | RemoveLabel
    | DeleteNodes
    | DeleteRelationships
    | SchemaOperation
)
SCHEMA_OPERATIONS = (CreateIndex, DropIndex, CreateConstraint, DropConstraint)


@dataclass(slots=True)
class WriteSet:
    """Operations in order. The builder methods check shapes and values, not the graph.

    They raise ``CypherTypeError`` for a value that cannot be stored, ``LimitError`` when the
    write set becomes too large, ``GraphError`` for arrays that do not fit together.
    """

    operations: list[Operation] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not self.operations

    @property
    def has_schema(self) -> bool:
        return any(isinstance(op, SCHEMA_OPERATIONS) for op in self.operations)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def extend(self, other: WriteSet) -> None:
        """Append the operations of a later write set."""
        self.operations.extend(other.operations)
        self._check_size()

    def create_nodes(
        self, ids: npt.ArrayLike, labels: tuple[str, ...], properties: dict[str, Vector]
    ) -> None:
        rows = _ids(ids)
        for label in labels:
            _check_name(label)
        _check_properties(properties, len(rows))
        self._append(CreateNodes(rows, tuple(dict.fromkeys(labels)), properties), rows)

    def create_relationships(
        self,
        ids: npt.ArrayLike,
        type: str,
        sources: npt.ArrayLike,
        targets: npt.ArrayLike,
        properties: dict[str, Vector],
    ) -> None:
        rows, starts, ends = _ids(ids), _ids(sources), _ids(targets)
        if not len(rows) == len(starts) == len(ends):
            raise GraphError(
                f"{len(rows)} relationships need as many sources ({len(starts)}) and targets "
                f"({len(ends)})"
            )
        _check_name(type)
        _check_properties(properties, len(rows))
        self._append(CreateRelationships(rows, type, starts, ends, properties), rows)

    def set_node_property(self, ids: npt.ArrayLike, key: str, values: Vector) -> None:
        rows = _ids(ids)
        _check_properties({key: values}, len(rows))
        self._append(SetNodeProperty(rows, key, values), rows)

    def set_relationship_property(self, ids: npt.ArrayLike, key: str, values: Vector) -> None:
        rows = _ids(ids)
        _check_properties({key: values}, len(rows))
        self._append(SetRelationshipProperty(rows, key, values), rows)

    def add_label(self, ids: npt.ArrayLike, label: str) -> None:
        rows = _ids(ids)
        _check_name(label)
        self._append(AddLabel(rows, label), rows)

    def remove_label(self, ids: npt.ArrayLike, label: str) -> None:
        rows = _ids(ids)
        _check_name(label)
        self._append(RemoveLabel(rows, label), rows)

    def delete_nodes(self, ids: npt.ArrayLike) -> None:
        rows = _ids(ids)
        self._append(DeleteNodes(rows), rows)

    def delete_relationships(self, ids: npt.ArrayLike) -> None:
        rows = _ids(ids)
        self._append(DeleteRelationships(rows), rows)

    def create_index(self, spec: IndexSpec, if_not_exists: bool = False) -> None:
        self._append_schema(CreateIndex(spec, if_not_exists), (spec.label, *spec.properties))

    def drop_index(self, name: str, if_exists: bool = False) -> None:
        self._append_schema(DropIndex(name, if_exists), (name,))

    def create_constraint(self, spec: ConstraintSpec, if_not_exists: bool = False) -> None:
        self._append_schema(CreateConstraint(spec, if_not_exists), (spec.label, *spec.properties))

    def drop_constraint(self, name: str, if_exists: bool = False) -> None:
        self._append_schema(DropConstraint(name, if_exists), (name,))

    def _append(self, operation: Operation, rows: IntArray) -> None:
        if not len(rows):
            return
        if len(rows) > OPERATION_ROWS_MAX:
            raise LimitError(
                f"one operation may touch {OPERATION_ROWS_MAX} rows, this one has {len(rows)}; "
                "write in smaller batches"
            )
        self.operations.append(operation)
        self._check_size()

    def _append_schema(self, operation: SchemaOperation, names: tuple[str, ...]) -> None:
        for name in names:
            _check_name(name)
        self.operations.append(operation)

    def _check_size(self) -> None:
        if len(self.operations) > WRITE_SET_OPERATIONS_MAX:
            raise LimitError(
                f"a transaction may have {WRITE_SET_OPERATIONS_MAX} operations; commit earlier"
            )

    def touched_nodes(self) -> IntArray:
        """Existing nodes that this changes, deletes or attaches relationships to, ascending."""
        touched: list[IntArray] = []
        created: list[IntArray] = []
        for op in self.operations:
            if isinstance(op, CreateNodes):
                created.append(op.ids)
            elif isinstance(op, CreateRelationships):
                touched += (op.sources, op.targets)
            elif isinstance(op, (SetNodeProperty, AddLabel, RemoveLabel, DeleteNodes)):
                touched.append(op.ids)
        return _difference(touched, created)

    def touched_relationships(self) -> IntArray:
        """Existing relationships that this changes or deletes, ascending."""
        touched: list[IntArray] = []
        created: list[IntArray] = []
        for op in self.operations:
            if isinstance(op, CreateRelationships):
                created.append(op.ids)
            elif isinstance(op, (SetRelationshipProperty, DeleteRelationships)):
                touched.append(op.ids)
        return _difference(touched, created)


def _difference(touched: list[IntArray], created: list[IntArray]) -> IntArray:
    if not touched:
        return _NO_IDS
    ids = distinct(np.concatenate(touched))
    return without(ids, np.concatenate(created)) if created else ids


def _ids(ids: npt.ArrayLike) -> IntArray:
    rows = np.asarray(ids, dtype=np.int64)
    if rows.ndim != 1:
        raise GraphError(f"ids must be a one-dimensional array, not of shape {rows.shape}")
    return rows


def _check_properties(properties: dict[str, Vector], rows: int) -> None:
    for key, vector in properties.items():
        _check_name(key)
        kind = vector.kind
        if len(vector.data) != rows:
            raise GraphError(f"property {key!r} has {len(vector)} values for {rows} rows")
        if kind is Kind.OBJECT or kind is Kind.STRING:
            for value in vector.data.tolist():
                check_storable(value)
        elif kind is Kind.NODE or kind is Kind.RELATIONSHIP:
            check_storable(kind)


def _check_name(name: str) -> None:
    if not name:
        raise CypherArgumentError(
            "'' is not a valid name for a label, type, key or schema object; it must not be empty",
            code="Neo.ClientError.Schema.TokenNameError",
        )
    if len(name) > NAME_BYTES_MAX // 4 and len(name.encode("utf-8", "surrogatepass")) > (
        NAME_BYTES_MAX
    ):
        raise LimitError(
            f"a label, type, key or schema name may have {NAME_BYTES_MAX} bytes, not "
            f"{len(name)} characters",
            code="Neo.ClientError.General.LimitReached",
        )
