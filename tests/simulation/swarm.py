"""What one run is like: everything that is drawn from the seed before it begins.

Each run has a *personality*: few kinds of faults, drawn anew, so that rare combinations come
together (swarm testing; FoundationDB and TigerBeetle do the same). All of it is one printed value.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from random import Random

__all__ = ["FAULTS", "Swarm"]

# Kinds of faults that are events, and how likely a run has them.
FAULTS: dict[str, float] = {
    "kill": 0.35,
    "power cut": 0.35,
    "power cut everywhere": 0.15,
    "leader kill": 0.35,
    "power at operation": 0.35,
    "pause": 0.25,
    "slow node": 0.15,
    "partition": 0.3,
    "one-way partition": 0.25,
    "partial partition": 0.2,
    "isolated leader": 0.3,
    "clogged links": 0.2,
    "false notice": 0.2,
    "clock freeze": 0.12,
    "clock jump": 0.12,
    "gateway kill": 0.15,
    "stalled sync": 0.2,
    "eio": 0.15,
    "eio in read": 0.06,
    "full disk": 0.12,
    "nearly full disk": 0.12,
    "bit flip": 0.2,
    "left behind": 0.25,
    "old leader returns": 0.2,
    "voters changed": 0.15,
    "members changed": 0.15,
    "server replaced": 0.15,
}
# With a voter fewer, the loss of another one may be more than Raft promises to survive.
NOT_WITH_FEWER_VOTERS = ("bit flip", "left behind", "old leader returns")

# They keep a server down until the others have done something; one more may not be down for good.
NEEDS_ALL_SERVERS = ("left behind", "old leader returns")


@dataclass(frozen=True)
class Swarm:
    """Options of a run. Times in microseconds unless the name says otherwise."""

    servers: int
    gateways: int
    clients: int
    duration_us: int
    faults: tuple[str, ...]
    loss: float
    duplication: float
    network_us: int
    network_tail_us: int  # now and then a message takes up to so long
    disk_us: int
    task_us: int  # how long a thread may take to get to its work
    skew: int  # per mille by which clocks may run fast or slow
    notices: float  # how often the death of a process is noticed by the others
    restart_us: int
    election_timeout_min_ms: int
    election_timeout_max_ms: int
    heartbeat_interval_ms: int
    replication_timeout_ms: int
    snapshot_threshold: int
    snapshot_chunk_bytes: int
    digest_entries: int
    append_entries_max: int
    append_bytes_max: int
    fragment_bytes: int
    think_us: int
    request_timeout_ms: int

    @classmethod
    def draw(cls, random: Random) -> Swarm:
        servers = random.choice((3, 3, 3, 3, 5))
        faults = tuple(name for name, chance in FAULTS.items() if random.random() < chance)
        if {"voters changed", "members changed", "server replaced"}.intersection(faults):
            faults = tuple(name for name in faults if name not in NOT_WITH_FEWER_VOTERS)
        if "bit flip" in faults:  # which may leave too few for another leader
            faults = tuple(name for name in faults if name != "old leader returns")
        if any(name in faults for name in NEEDS_ALL_SERVERS):
            faults = tuple(name for name in faults if name != "bit flip")
        election_ms = random.choice((60, 100, 150))
        scale = election_ms / 60  # of everything that a client or the nemesis does

        def sometimes(chance: float, high: float) -> float:
            return round(random.uniform(0.03, high), 3) if random.random() < chance else 0.0

        return cls(
            servers=servers,
            gateways=random.choice((1, 2, 2)),
            clients=random.choice((2, 3, 5)),
            duration_us=int(random.randint(1_200_000, 2_200_000) * scale),
            faults=faults,
            loss=sometimes(0.5, 0.2),
            duplication=sometimes(0.5, 0.3),
            network_us=random.choice((500, 1_000, 4_000)),
            network_tail_us=random.choice((0, 0, 30_000, 120_000)),
            disk_us=random.choice((200, 1_000, 5_000)),
            task_us=random.choice((50, 500, 2_000)),
            skew=random.choice((0, 0, 20, 300)),
            notices=random.choice((0.0, 0.5, 1.0)),
            restart_us=random.choice((20_000, 100_000, 300_000)),
            election_timeout_min_ms=election_ms,
            election_timeout_max_ms=2 * election_ms,
            heartbeat_interval_ms=election_ms // 4,
            replication_timeout_ms=random.choice((200, 600)),
            # A follower is left behind in time only where snapshots are frequent.
            snapshot_threshold=20 if "left behind" in faults else random.choice((20, 50, 100)),
            digest_entries=random.choice((10, 30, 1_000)),
            snapshot_chunk_bytes=random.choice((700, 2_000, 16_000)),
            append_entries_max=random.choice((2, 8, 64)),
            append_bytes_max=random.choice((400, 4_000, 64_000)),
            fragment_bytes=random.choice((150, 1_000, 256 * 1024)),
            think_us=int(
                scale
                * (10_000 if "left behind" in faults else random.choice((10_000, 25_000, 50_000)))
            ),
            request_timeout_ms=random.choice((100, 300, 1_000)),
        )

    def show(self) -> str:
        return "\n".join(f"    {name} = {value!r}" for name, value in asdict(self).items())
