"""The one table of what differs between protocol versions.

No other module compares version numbers: it asks a :class:`Protocol` for the property it needs. A
new version is a new row (and a new column where it brings something that no row has yet).

Version 5.5 is left out on purpose and must stay out: it was never released, and drivers refuse it.

Source: Bolt message specification, "Summary of changes per version",
https://neo4j.com/docs/bolt/current/bolt/message/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["PREFERENCE", "PROTOCOLS", "Dialect", "Protocol"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How values that PackStream does not know are written as structures.

    element_ids: nodes and relationships carry ``element_id`` strings (5.0 and later).
    utc: DateTime counts seconds in UTC, tags 0x49 and 0x69; otherwise seconds of the local clock,
    tags 0x46 and 0x66.
    """

    element_ids: bool
    utc: bool


@dataclass(frozen=True, slots=True)
class Protocol:
    """One version of Bolt."""

    version: tuple[int, int]
    # Authentication is LOGON's; before, it was part of HELLO.
    logon: bool
    # TELEMETRY exists.
    telemetry: bool
    # ROUTE's third field is a map with ``db`` and ``imp_user``; before, it was the database's name.
    route_extra: bool
    # HELLO may ask for UTC DateTime with ``patch_bolt: ["utc"]``.
    utc_patch: bool
    # Structures before any patch.
    dialect: Dialect


_5 = Dialect(element_ids=True, utc=True)
_4 = Dialect(element_ids=False, utc=False)

_TABLE = (
    # version  logon  telemetry  route_extra  utc_patch  dialect
    Protocol((5, 4), True, True, True, False, _5),
    Protocol((5, 3), True, False, True, False, _5),
    Protocol((5, 2), True, False, True, False, _5),
    Protocol((5, 1), True, False, True, False, _5),
    Protocol((5, 0), False, False, True, False, _5),
    Protocol((4, 4), False, False, True, True, _4),
    Protocol((4, 3), False, False, False, True, _4),
)

PROTOCOLS: Mapping[tuple[int, int], Protocol] = MappingProxyType({p.version: p for p in _TABLE})

# Best first.
PREFERENCE: tuple[tuple[int, int], ...] = tuple(PROTOCOLS)
