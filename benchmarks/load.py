"""How many writes and point reads a second, and how long each takes.

    python benchmarks/load.py [--seconds 10] [--connections 1,16,64,256]

starts three fresh servers on this machine (log synced to disk on each) and measures

* **writes**: ``CREATE (:User {id: $id, name: $name})``, one autocommit transaction each, counted
  when the server has acknowledged it, that is when a majority has it on disk;
* **reads**: ``MATCH (n:User {id: $id}) RETURN n.name`` with an index on 100,000 nodes, ids at
  random, in READ access mode, so that any server may answer from its own copy.

Connections are spread evenly over the gateways, and each sends its next request when the last one
is answered (a closed loop). Every figure is the median of several rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from bolt_client import (
    BoltError,
    BoltFailure,
    ClosedLoop,
    Connection,
    Measurement,
    Statement,
    percentile,
    run_event_loop,
)
from local_cluster import ClusterError, LocalCluster

NODES = 100_000
BATCH = 10_000
CONNECT_AT_ONCE = 32

CREATE = Statement("CREATE (:User {id: $id, name: $name})", ("id", "name"))
READ = Statement("MATCH (n:User {id: $id}) RETURN n.name", ("id",), read=True)
INDEX = Statement("CREATE INDEX ON :User(id)")
CONSTRAINT = Statement("CREATE CONSTRAINT ON (n:User) ASSERT n.id IS UNIQUE")
# MERGE, so that a batch may be sent again, and a database be measured twice.
FILL = Statement(
    "UNWIND range($from, $to) AS id "
    "MERGE (n:User {id: id}) ON CREATE SET n.name = 'user ' + toString(id)",
    ("from", "to"),
)
EXISTS_ALREADY = "Neo.ClientError.Schema.EquivalentSchemaRuleAlreadyExists"


def machine_facts(directory: Path | None = None) -> list[str]:
    """What one has to know to compare the figures with another machine's."""
    model, memory = platform.processor() or platform.machine(), "?"
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
        kilobytes = Path("/proc/meminfo").read_text().split()[1]
        memory = f"{int(kilobytes) / 2**20:.0f} GiB"
    except (OSError, IndexError, ValueError):
        pass
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        f"{model}, {usable} cores, {memory} memory",
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        f"write of 4 KiB and fsync: {_fsync_seconds(directory) * 1e3:.2f} ms (median of 100)",
    ]


def _fsync_seconds(directory: Path | None) -> float:
    times = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(100):
            began = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times)


async def connect_all(addresses: Sequence[str], count: int) -> list[Connection]:
    """``count`` connections, spread evenly; a few at a time, as the accept queue is finite."""
    connections: list[Connection] = []
    targets = [addresses[position % len(addresses)] for position in range(count)]
    for start in range(0, count, CONNECT_AT_ONCE):
        some = targets[start : start + CONNECT_AT_ONCE]
        connections += await asyncio.gather(*map(Connection.connect, some))
    return connections


async def run_schema(address: str, statement: Statement) -> None:
    """Create an index or a constraint; one that exists is as good."""
    connection = await Connection.connect(address)
    try:
        await connection.run(statement)
    except BoltFailure as failure:
        if failure.code != EXISTS_ALREADY:
            raise
    finally:
        connection.close()


async def fill(address: str) -> str | None:
    """See to it that users 0 to 99,999 are there; the bookmark of the last batch."""
    connection = await Connection.connect(address)
    try:
        for start in range(0, NODES, BATCH):
            await connection.run(FILL, (start, start + BATCH - 1))
        return connection.bookmark
    finally:
        connection.close()


async def catch_up(addresses: Sequence[str], bookmark: str | None) -> None:
    """Wait until each server has what the bookmark stands for."""
    wait = Statement("RETURN 1", read=True, bookmarks=[bookmark] if bookmark else [])
    for address in addresses:
        connection = await Connection.connect(address)
        try:
            await connection.run(wait)
        finally:
            connection.close()


def writer() -> Callable[[], bytes]:
    """Makes requests that create users with ids nobody had before."""
    # Microseconds since the epoch: a second run on the same database makes other ids.
    next_id = int(time.time() * 1e6)

    def make_request() -> bytes:
        nonlocal next_id
        next_id += 1
        return CREATE.request((next_id, f"user {next_id}"))

    return make_request


def reader() -> Callable[[], bytes]:
    """Makes requests for users at random; encoded beforehand, that is half the client's work."""
    requests = [READ.request((random.randrange(NODES),)) for _ in range(50_000)]
    position = 0

    def make_request() -> bytes:
        nonlocal position
        position = (position + 1) % len(requests)
        return requests[position]

    return make_request


async def measure(
    addresses: Sequence[str], count: int, make_request: Callable[[], bytes], seconds: float
) -> Measurement:
    """One round with ``count`` fresh connections."""
    connections = await connect_all(addresses, count)
    try:
        return await ClosedLoop(connections, make_request).measure(seconds, min(1.0, seconds / 5))
    finally:
        for connection in connections:
            connection.close()


async def series(
    name: str,
    options: argparse.Namespace,
    addresses: Sequence[str],
    make_request: Callable[[], bytes],
) -> list[dict[str, object]]:
    """All numbers of connections, ``--rounds`` rounds each; prints a Markdown table."""
    print(f"\n### {name}\n")
    print(
        "| connections | per second | p50 ms | p99 ms | rounds (per second) | client CPU | failed |"
    )
    print("|---:|---:|---:|---:|---|---:|---|")
    table = []
    for count in options.connections:
        rounds = [
            await measure(addresses, count, make_request, options.seconds)
            for _ in range(options.rounds)
        ]
        failures = sum((Counter(one.failures) for one in rounds), Counter[str]())
        row = {
            "what": name,
            "connections": count,
            "per_second": statistics.median(one.rate for one in rounds),
            "p50_ms": statistics.median(percentile(one.latencies, 50) for one in rounds) * 1e3,
            "p99_ms": statistics.median(percentile(one.latencies, 99) for one in rounds) * 1e3,
            "rounds": [round(one.rate) for one in rounds],
            "client_cpu": statistics.median(one.client_cpu / one.seconds for one in rounds),
            "failures": dict(failures),
        }
        table.append(row)
        failed = ", ".join(f"{code}: {times}" for code, times in failures.items()) or "0"
        print(
            f"| {count} | {row['per_second']:,.0f} | {row['p50_ms']:.2f} | {row['p99_ms']:.2f} "
            f"| {' '.join(f'{one.rate:,.0f}' for one in rounds)} | {row['client_cpu']:.0%} "
            f"| {failed} |",
            flush=True,
        )
    return table


async def benchmark(
    options: argparse.Namespace, addresses: Sequence[str]
) -> list[dict[str, object]]:
    """The measurements that were asked for, one after the other."""
    results = []
    if options.constraint:
        await run_schema(addresses[0], CONSTRAINT)
    if "writes" in options.only:
        name = "CREATE of one node" + (", uniqueness constraint" if options.constraint else "")
        results += await series(name, options, addresses, writer())
    if "reads" in options.only:
        if not options.constraint:
            await run_schema(addresses[0], INDEX)
        await catch_up(addresses, await fill(addresses[0]))
        results += await series("Point read by indexed property", options, addresses, reader())
    return results


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; ends the program with status 2 when it is wrong."""
    parser = argparse.ArgumentParser(
        description="Writes and point reads a second over Bolt, with latencies."
    )
    parser.add_argument(
        "--address",
        nargs="+",
        help="gateways of a running database, e.g. 127.0.0.1:7687 (default: start a fresh one)",
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of which the median counts")
    parser.add_argument("--connections", default="1,16,64,256", help="numbers, by commas")
    parser.add_argument("--only", choices=("writes", "reads"), help="one of the two measurements")
    parser.add_argument(
        "--constraint", action="store_true", help="with a uniqueness constraint on :User(id)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    options = parser.parse_args(arguments)
    try:
        options.connections = [int(count) for count in options.connections.split(",")]
    except ValueError:
        parser.error("--connections takes numbers separated by commas, as in 1,16,64")
    if options.seconds <= 0 or options.rounds < 1 or min(options.connections) < 1:
        parser.error("--seconds, --rounds and --connections must be positive")
    options.only = (options.only,) if options.only else ("writes", "reads")
    return options


def main() -> int:
    """Run the benchmark; exit status 1 if the database cannot be measured."""
    options = parse()
    try:
        facts = machine_facts()
        print("\n".join(f"- {fact}" for fact in facts))
        if options.address:
            results = run_event_loop(benchmark(options, options.address))
        else:
            with LocalCluster() as cluster:
                results = run_event_loop(benchmark(options, cluster.addresses))
    except (BoltError, ClusterError, OSError, ValueError) as error:
        print(f"load.py: {error}", file=sys.stderr)
        return 1
    if options.json:
        report = {"machine": facts, "seconds": options.seconds, "results": results}
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
