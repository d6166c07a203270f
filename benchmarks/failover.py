"""How long a client waits for its next write when the leader is killed.

    python benchmarks/failover.py [--kills 30] [--hand-over]

starts three fresh servers with the default timeouts (election after 750 to 1,000 ms, heartbeats
every 100 ms). A client writes all the time, one autocommit CREATE after the other, through the
gateway of a server that is not killed. Again and again the leader's process gets SIGKILL, and
the time is taken **from the signal to the acknowledgement of the first write that was sent after
it**. (A write on its way at that moment does not count: it may have been committed before.) The
writer does what a client would: it tries again after an error, and connects again when the
connection is gone. Before the next kill all three servers are up, in one term, and have caught
up.

With ``--hand-over`` nothing is killed: the leader is asked to hand over, as it does by itself
before it is stopped on purpose, and the time is taken from that request.

At the end the acknowledged writes are looked for: each must be there, none twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from bolt_client import (
    BoltError,
    BoltFailure,
    Connection,
    Statement,
    percentile,
    run_event_loop,
)
from load import catch_up, machine_facts
from local_cluster import (
    ClusterError,
    LocalCluster,
    check_can_kill,
    gateways,
    kill_server,
    server_pid,
    wait_until_healthy,
)

YIELD = Statement("YIELD LEADERSHIP", ())
CREATE = Statement("CREATE (:Probe {run: $run, id: $id})", ("run", "id"))
RETRY_SECONDS = 0.005
ANSWER_SECONDS = 10.0
RECOVERY_SECONDS = 60.0
BUCKET_MS = 100


class Writer:
    """Writes without pause through ``address`` and remembers what was acknowledged, and when."""

    def __init__(self, address: str, run: int) -> None:
        self.address = address
        self.run_id = run
        self.acknowledged: list[int] = []
        self.attempts = 0
        self.failures: Counter[str] = Counter()
        self.bookmark: str | None = None
        self._connection: Connection | None = None
        self._waiting: tuple[float, asyncio.Future[float]] | None = None

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            while True:
                try:
                    await self._write()
                except BoltFailure as failure:
                    self.failures[failure.code] += 1
                    await asyncio.sleep(RETRY_SECONDS)
                except (OSError, BoltError) as error:  # TimeoutError is an OSError
                    self.failures[type(error).__name__] += 1
                    self._connection = None
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            if self._connection is not None:
                self._connection.close()

    async def _write(self) -> None:
        if self._connection is None or self._connection.closed:
            self._connection = await Connection.connect(self.address)
        connection = self._connection  # ``move`` may take it away meanwhile
        number = self.attempts
        self.attempts += 1
        sent = perf_counter()
        await connection.run(CREATE, (self.run_id, number), ANSWER_SECONDS)
        self.acknowledged.append(number)
        self.bookmark = connection.bookmark
        if self._waiting is not None and sent >= self._waiting[0]:
            if not self._waiting[1].done():
                self._waiting[1].set_result(perf_counter())
            self._waiting = None

    async def move(self, address: str) -> None:
        """Write through another gateway from now on."""
        if address != self.address:
            self.address = address
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
        await self.acknowledged_after(perf_counter())

    async def acknowledged_after(self, moment: float) -> float:
        """When the first write sent after ``moment`` was acknowledged, by ``perf_counter``.

        TimeoutError after ``RECOVERY_SECONDS``.
        """
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting = (moment, future)
        async with asyncio.timeout(RECOVERY_SECONDS):
            return await future


async def kill_once(
    directory: Path, addresses: Sequence[str], writer: Writer, settle: float
) -> float:
    """Kill the leader once; seconds until the next acknowledged write. Health before and after."""
    leader = await _ready_to_be_killed(addresses, writer, settle)
    moment = perf_counter()
    pid = kill_server(directory, leader)
    if pid is None:
        raise ClusterError(f"server {leader} leads, but its process is not there to be killed")
    try:
        seconds = await writer.acknowledged_after(moment) - moment
    except TimeoutError:
        raise ClusterError(
            f"no write was acknowledged within {RECOVERY_SECONDS:.0f} s "
            f"after server {leader} was killed; failures: {dict(writer.failures)}"
        ) from None
    await _wait_for_new_process(directory, leader, pid)
    return seconds


async def hand_over_once(addresses: Sequence[str], writer: Writer, settle: float) -> float:
    """Let the leader hand over once; seconds until the next acknowledged write."""
    await _ready_to_be_killed(addresses, writer, settle)
    connection = await Connection.connect(writer.address)
    try:
        moment = perf_counter()
        acknowledged = asyncio.create_task(writer.acknowledged_after(moment))
        await connection.run(YIELD, (), ANSWER_SECONDS)
        return await acknowledged - moment
    finally:
        connection.close()


async def _ready_to_be_killed(addresses: Sequence[str], writer: Writer, settle: float) -> int:
    """Everything well, the writer busy at a follower's gateway for a while: the leader's id."""
    for _ in range(10):
        leader = await wait_until_healthy(addresses, RECOVERY_SECONDS)
        others = [address for i, address in enumerate(addresses, 1) if i != leader]
        await writer.move(random.choice(others))
        await catch_up(addresses, writer.bookmark)
        # Of random length, so that kills meet every phase of a heartbeat interval.
        await asyncio.sleep(settle * (0.5 + random.random()))
        if await wait_until_healthy(addresses, RECOVERY_SECONDS) == leader:
            return leader
    raise ClusterError("leadership moved ten times although nothing was killed")


async def _wait_for_new_process(directory: Path, server_id: int, old: int) -> None:
    deadline = time.monotonic() + RECOVERY_SECONDS
    while server_pid(directory, server_id) in (old, None):
        if time.monotonic() > deadline:
            raise ClusterError(
                f"server {server_id} was not started again within {RECOVERY_SECONDS:.0f} s"
            )
        await asyncio.sleep(0.05)


async def check(addresses: Sequence[str], writer: Writer) -> list[str]:
    """What is wrong with the data on each server; empty if nothing is."""
    await wait_until_healthy(addresses, RECOVERY_SECONDS)
    await catch_up(addresses, writer.bookmark)
    problems = []
    acknowledged = set(writer.acknowledged)
    found_by = Statement(
        "MATCH (n:Probe {run: $run}) RETURN n.id",
        ("run",),
        read=True,
        bookmarks=[writer.bookmark] if writer.bookmark else [],
    )
    for address in addresses:
        connection = await Connection.connect(address)
        try:
            rows = await connection.run(found_by, (writer.run_id,))
        finally:
            connection.close()
        found = [row[0] for row in rows]
        if lost := acknowledged.difference(found):
            problems.append(
                f"{address}: {len(lost)} acknowledged writes are lost: {sorted(lost)[:5]}"
            )
        if len(found) != len(set(found)):
            problems.append(f"{address}: {len(found) - len(set(found))} writes are there twice")
    return problems


async def benchmark(
    options: argparse.Namespace, directory: Path, addresses: Sequence[str]
) -> tuple[list[float], list[str], Writer]:
    """All kills; the times, what is wrong afterwards, and the writer with its counts."""
    await wait_until_healthy(addresses)
    check_can_kill(directory, addresses)
    writer = Writer(addresses[0], run=time.time_ns())
    task = asyncio.create_task(writer.run())
    times = []
    try:
        for number in range(1, options.kills + 1):
            if options.hand_over:
                seconds = await hand_over_once(addresses, writer, options.settle)
            else:
                seconds = await kill_once(directory, addresses, writer, options.settle)
            times.append(seconds)
            print(f"{_what(options)} {number:3}: {seconds * 1e3:6.0f} ms", flush=True)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return times, await check(addresses, writer), writer


def _what(options: argparse.Namespace) -> str:
    return "hand-over" if options.hand_over else "kill"


def histogram(times: Sequence[float]) -> str:
    """Text bars, one line for each 100 ms from the fastest to the slowest."""
    buckets = Counter(int(seconds * 1e3) // BUCKET_MS for seconds in times)
    lines = []
    for bucket in range(min(buckets), max(buckets) + 1):
        low = bucket * BUCKET_MS
        lines.append(f"{low:5}-{low + BUCKET_MS:<5} ms {buckets[bucket]:3} {'#' * buckets[bucket]}")
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; ends the program with status 2 when it is wrong."""
    parser = argparse.ArgumentParser(
        description="Time from SIGKILL of the leader to the next acknowledged write."
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument(
        "--hand-over", action="store_true", help="ask the leader to hand over, and kill nothing"
    )
    parser.add_argument(
        "--address", help="first gateway of a running cluster of three (default: start one)"
    )
    parser.add_argument(
        "--data-directory", type=Path, default=Path("rayft_data"), help="with --address: its data"
    )
    parser.add_argument(
        "--settle", type=float, default=1.0, help="seconds of writing before a kill, about"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    options = parser.parse_args(arguments)
    if options.kills < 1 or options.settle < 0:
        parser.error("--kills must be at least 1 and --settle not negative")
    return options


def report(options: argparse.Namespace, times: list[float], writer: Writer) -> None:
    """Print the result, and write it as JSON if a file was named."""
    p50, p99 = percentile(times, 50), percentile(times, 99)
    print(
        f"\n{len(times)} {_what(options)}s: p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms "
        f"(nearest rank), max {max(times) * 1e3:.0f} ms\n\n{histogram(times)}\n\n"
        f"{len(writer.acknowledged):,} writes acknowledged of {writer.attempts:,} sent; "
        f"errors the client saw: {dict(writer.failures)}"
    )
    if options.json:
        result = {
            "machine": machine_facts(),
            "kills": len(times),
            "seconds": times,
            "p50": p50,
            "p99": p99,
            "max": max(times),
            "acknowledged": len(writer.acknowledged),
            "attempts": writer.attempts,
            "failures": dict(writer.failures),
        }
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def main() -> int:
    """Run; exit status 1 if the cluster does not recover, or if a write was lost or doubled."""
    options = parse()
    try:
        if options.address:
            times, problems, writer = run_event_loop(
                benchmark(options, options.data_directory, gateways(options.address))
            )
        else:
            with LocalCluster() as cluster:
                times, problems, writer = run_event_loop(
                    benchmark(options, cluster.directory, cluster.addresses)
                )
    except (BoltError, ClusterError, OSError, ValueError) as error:
        print(f"failover.py: {error}", file=sys.stderr)
        return 1
    report(options, times, writer)
    for problem in problems:
        print(f"WRONG: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
