"""The pieces of a root, and how two roots come to share them.

``State`` is the data of a root: no query and no change is decided here. A root owns its *lists*
of pieces outright; the pieces in them (columns, bitmaps, adjacency) may be shared with other
roots and carry the epoch of the root that may write to them. A fork copies the lists and gives
both roots new epochs: from then on neither owns any piece, and each copies what it writes to.
"""

from __future__ import annotations

from graph.adjacency import Adjacency
from graph.bitmaps import Bitmap
from graph.catalog import Names
from graph.chunked import Epoch
from graph.columns import Column
from graph.indexes import Schema
from graph.relationships import RelationshipTable

__all__ = ["State"]


class State:
    """The data of one root. Lists are indexed by catalog number."""

    __slots__ = (
        "alive",
        "epoch",
        "incoming",
        "key_names",
        "label_names",
        "labels_members",
        "loops",
        "next_node_id",
        "next_relationship_id",
        "node_columns",
        "outgoing",
        "relationship_columns",
        "schema",
        "table",
        "type_counts",
        "type_names",
    )

    def __init__(self) -> None:
        self.epoch = Epoch()
        self.label_names = Names()
        self.type_names = Names()
        self.key_names = Names()
        self.alive = Bitmap(self.epoch)
        self.labels_members: list[Bitmap] = []
        self.node_columns: list[Column] = []
        self.table = RelationshipTable(self.epoch)
        self.relationship_columns: list[Column] = []
        self.outgoing: list[Adjacency] = []
        self.incoming: list[Adjacency] = []
        self.type_counts: list[int] = []
        self.loops: list[int] = []  # relationships from a node to itself, by type
        self.schema = Schema()
        self.next_node_id = 0
        self.next_relationship_id = 0

    def _become_fork_of(self, parent: State) -> None:
        """Share all pieces of ``parent``. Safe while other threads read ``parent``."""
        self.label_names = parent.label_names
        self.type_names = parent.type_names
        self.key_names = parent.key_names
        self.alive = parent.alive
        self.labels_members = parent.labels_members.copy()
        self.node_columns = parent.node_columns.copy()
        self.table = parent.table
        self.relationship_columns = parent.relationship_columns.copy()
        self.outgoing = parent.outgoing.copy()
        self.incoming = parent.incoming.copy()
        self.type_counts = parent.type_counts.copy()
        self.loops = parent.loops.copy()
        self.schema = parent.schema
        self.next_node_id = parent.next_node_id
        self.next_relationship_id = parent.next_relationship_id
        self.epoch = Epoch()
        parent.epoch = Epoch()

    # names: catalog numbers, added when new, with their pieces

    def add_names(self, labels: list[str], types: list[str], keys: list[str]) -> None:
        """Enter names that may be new and make the pieces that belong to them."""
        self.label_names = self.label_names.with_names(labels)
        self.type_names = self.type_names.with_names(types)
        self.key_names = self.key_names.with_names(keys)
        epoch = self.epoch
        while len(self.labels_members) < len(self.label_names):
            self.labels_members.append(Bitmap(epoch))
        while len(self.node_columns) < len(self.key_names):
            self.node_columns.append(Column(epoch))
            self.relationship_columns.append(Column(epoch))
        while len(self.outgoing) < len(self.type_names):
            self.outgoing.append(Adjacency(epoch))
            self.incoming.append(Adjacency(epoch))
            self.type_counts.append(0)
            self.loops.append(0)

    # pieces for writing: copied first if an older epoch made them

    def own_alive(self) -> Bitmap:
        piece = self.alive
        if piece.epoch is not self.epoch:
            piece = self.alive = piece.copy(self.epoch)
        return piece

    def own_table(self) -> RelationshipTable:
        piece = self.table
        if piece.epoch is not self.epoch:
            piece = self.table = piece.copy(self.epoch)
        return piece

    def own_label(self, number: int) -> Bitmap:
        piece = self.labels_members[number]
        if piece.epoch is not self.epoch:
            piece = self.labels_members[number] = piece.copy(self.epoch)
        return piece

    def own_node_column(self, number: int) -> Column:
        return self._own_column(self.node_columns, number)

    def own_relationship_column(self, number: int) -> Column:
        return self._own_column(self.relationship_columns, number)

    def _own_column(self, columns: list[Column], number: int) -> Column:
        piece = columns[number]
        if piece.epoch is not self.epoch:
            piece = columns[number] = piece.copy(self.epoch)
        return piece

    def own_adjacency(self, adjacencies: list[Adjacency], number: int) -> Adjacency:
        piece = adjacencies[number]
        if piece.epoch is not self.epoch:
            piece = adjacencies[number] = piece.copy(self.epoch)
        return piece
