"""What a client's writes take while the servers write snapshots, and while they do not.

    python benchmarks/snapshot_latency.py [--seconds 60] [--nodes 100000] [--connections 1,8]

starts three fresh servers that compact their logs every few hundred entries, fills them with a
graph of ``--nodes`` nodes and twice as many relationships, and writes without pause: one autocommit
CREATE after the other on each connection. Every server writes a snapshot of the whole graph at the
same entry, again and again; when, it says in its log. Afterwards the writes are parted: those
during which some server was writing a snapshot, and the others of the same run. Both groups'
medians and their ratio are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bolt_client import BoltError, Connection, Statement, percentile, run_event_loop
from load import catch_up, machine_facts
from local_cluster import SERVERS, ClusterError, LocalCluster

CREATE = Statement("CREATE (:Written {number: $number, text: $text})", ("number", "text"))
FILL_NODES = Statement(
    "UNWIND range($first, $first + 9999) AS i CREATE (:Person {id: i, name: 'person ' + "
    "toString(i), about: toString(rand()) + toString(rand()), age: i % 90, score: rand()})",
    ("first",),
)
FILL_RELATIONSHIPS = Statement(
    "UNWIND range($first, $first + 9999) AS i MATCH (a:Person {id: i}), "
    "(b:Person {id: (i * 7 + 1) % $nodes}) "
    "CREATE (a)-[:KNOWS {since: i}]->(b), (b)-[:LIKES]->(a)",
    ("first", "nodes"),
)
INDEX = Statement("CREATE INDEX FOR (p:Person) ON (p.id)")
THRESHOLDS = {1: 300, 8: 600}  # entries between two snapshots, by connections
THRESHOLD_OTHERWISE = 1_000
FILL_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds of the clock on the wall, from and to."""

    start: float
    end: float


async def fill(address: str, nodes: int) -> str | None:
    connection = await Connection.connect(address)
    await connection.run(INDEX, timeout=FILL_SECONDS)
    for first in range(0, nodes, 10_000):
        await connection.run(FILL_NODES, (first,), timeout=FILL_SECONDS)
    for first in range(0, nodes, 10_000):
        await connection.run(FILL_RELATIONSHIPS, (first, nodes), timeout=FILL_SECONDS)
    bookmark = connection.bookmark
    connection.close()
    return bookmark


async def write(address: str, until: float, writes: list[Span]) -> None:
    connection = await Connection.connect(address)
    number = 0
    while (started := time.time()) < until:
        number += 1
        await connection.run(CREATE, (number, f"text {number}"), timeout=30.0)
        writes.append(Span(started, time.time()))
    connection.close()


async def run(addresses: Sequence[str], nodes: int, seconds: float, connections: int) -> list[Span]:
    await catch_up(addresses, await fill(addresses[0], nodes))
    writes: list[Span] = []
    until = time.time() + seconds
    await asyncio.gather(
        *(write(addresses[i % len(addresses)], until, writes) for i in range(connections))
    )
    return writes


def snapshots(directory: Path) -> list[Span]:
    """When each server wrote one, from the servers' logs."""
    found: list[Span] = []
    for server in range(1, SERVERS + 1):
        path = directory / f"server_{server}" / "log" / "server.log"
        for line in path.read_text().splitlines():
            if '"snapshot saved"' in line:
                event = json.loads(line)
                end = datetime.fromisoformat(event["timestamp"]).timestamp()
                found.append(Span(end - event["seconds"], end))
    return sorted(found, key=lambda span: span.start)


def part(writes: Sequence[Span], taken: Sequence[Span]) -> tuple[list[float], list[float]]:
    """Seconds of the writes during a snapshot, and of the others."""
    during: list[float] = []
    others: list[float] = []
    for each in writes:
        overlaps = any(span.start <= each.end and span.end >= each.start for span in taken)
        (during if overlaps else others).append(each.end - each.start)
    return during, others


def show(name: str, seconds: Sequence[float]) -> None:
    p50, p99 = percentile(seconds, 50) * 1000, percentile(seconds, 99) * 1000
    print(f"{name:22s} {len(seconds):7,d} {p50:8.1f} {p99:8.1f} {max(seconds) * 1000:8.1f}")


def measure(nodes: int, seconds: float, connections: int) -> None:
    threshold = THRESHOLDS.get(connections, THRESHOLD_OTHERWISE)
    with LocalCluster(constants={"log_size_snapshot_threshold": threshold}) as cluster:
        started = time.time()
        writes = run_event_loop(run(cluster.addresses, nodes, seconds, connections))
        taken = [span for span in snapshots(cluster.directory) if span.end > started]
    during, others = part(writes, taken)
    if not during or not others:
        raise ClusterError(f"{len(taken)} snapshots, {len(during)} writes during one: run longer")
    spent = sum(span.end - span.start for span in taken) / len(taken)
    print(f"\n{connections} connections, {len(taken)} snapshots, {spent:.2f} s each")
    print(f"{'writes':22s} {'count':>7s} {'p50 ms':>8s} {'p99 ms':>8s} {'max ms':>8s}")
    show("during a snapshot", during)
    show("during none", others)
    print(f"ratio of the medians   {percentile(during, 50) / percentile(others, 50):.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--connections", default="1,8")
    options = parser.parse_args()
    print("\n".join(machine_facts()))
    try:
        for connections in map(int, options.connections.split(",")):
            measure(options.nodes, options.seconds, connections)
    except (ClusterError, BoltError, OSError) as error:
        print(f"snapshot_latency: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
