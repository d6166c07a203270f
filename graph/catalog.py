"""The catalog: names of labels, relationship types and property keys as small integers.

A name gets the next number when a write set first uses it and keeps it for ever, so the numbers
are the same on every server. A ``Names`` is immutable: a new name makes a new object, and roots
that share the old one are not disturbed.
"""

from __future__ import annotations

from collections.abc import Iterable

from graph.errors import LimitError
from graph.limits import CATALOG_NAMES_MAX

__all__ = ["Names"]


class Names:
    """An immutable, ordered set of names."""

    __slots__ = ("ids", "names")

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = tuple(names)
        self.ids = {name: number for number, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def with_names(self, new: Iterable[str]) -> Names:
        """These names followed by those of ``new`` that are not here yet.

        Raises ``LimitError`` when the catalog would be larger than ``CATALOG_NAMES_MAX``.
        """
        added = [name for name in dict.fromkeys(new) if name not in self.ids]
        if not added:
            return self
        if len(self.names) + len(added) > CATALOG_NAMES_MAX:
            raise LimitError(
                f"the graph cannot have more than {CATALOG_NAMES_MAX} different labels, types or "
                f"keys of one sort (new: {added[0]!r}); keep varying data in property values",
                code="Neo.ClientError.General.LimitReached",
            )
        return Names((*self.names, *added))
