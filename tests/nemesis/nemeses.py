"""All kinds of faults, by name, in the order in which they run."""

from __future__ import annotations

from .faults import (
    IsolateLeader,
    KillAll,
    KillLeader,
    Nemesis,
    PartitionHalves,
    Pause,
    SlowLink,
    Snapshots,
)
from .membership import Membership

NEMESES: dict[str, type[Nemesis]] = {
    nemesis.name: nemesis
    for nemesis in (
        KillLeader,
        KillAll,
        Pause,
        Snapshots,
        Membership,
        PartitionHalves,
        IsolateLeader,
        SlowLink,
    )
}
