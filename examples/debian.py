"""The machine's own package catalogue as a graph, loaded while leaders die.

    python examples/debian.py --start          # starts three servers itself, stops them at the end
    python examples/debian.py --data-directory rayft_data      # with ``memgraph_ha`` running

reads ``apt-cache dumpavail`` (some 60,000 packages with several hundred thousand dependencies),
loads it through Bolt with the official driver while the current leader's process is killed with
SIGKILL every five seconds, compares what each server holds with the input, and then asks what
one would ask of such a graph.

    (:Package {name, version, section, size, maintainer})
        -[:DEPENDS|PRE_DEPENDS|RECOMMENDS|PROVIDES {constraint, alternatives}]-> (:Package)

Names that are only depended on or provided are (:Package:Virtual {name}); see ``catalogue.py``.

Why a retry doubles nothing: there is a uniqueness constraint on :Package(name), nodes are merged
by name, and relationships by (from, type, to). A batch sent twice finds its own work and changes
nothing. So after *any* error that leaves the outcome open (the connection broke while COMMIT was
under way, say), the loader sends the same batch again. The driver itself retries only what
surely did not happen; for a plain CREATE that caution is right.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neo4j import READ_ACCESS, Bookmarks, Driver, GraphDatabase, ManagedTransaction
from neo4j.exceptions import DriverError, Neo4jError, ServiceUnavailable, SessionExpired
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from catalogue import RELATIONSHIP_TYPES, Catalogue, CatalogueError, read_catalogue
from local_cluster import (
    ClusterError,
    LocalCluster,
    check_can_kill,
    gateways,
    kill_server,
    leader_of,
    raft_infos,
    wait_until_healthy,
)
from questions import ask

COMMIT_FAILED = "Neo.DatabaseError.Transaction.TransactionCommitFailed"
CONSTRAINT_EXISTS = "Neo.ClientError.Schema.EquivalentSchemaRuleAlreadyExists"
BATCH_SECONDS = 120.0
COMPARE_SECONDS = 120.0
RESEND_SECONDS = 0.2

CONSTRAINT = "CREATE CONSTRAINT ON (p:Package) ASSERT p.name IS UNIQUE"
PACKAGES = """
UNWIND $rows AS row
MERGE (p:Package {name: row.name})
ON CREATE SET p.version = row.version, p.section = row.section, p.size = row.size,
              p.maintainer = row.maintainer
"""
VIRTUAL = "UNWIND $rows AS row MERGE (p:Package {name: row.name}) ON CREATE SET p:Virtual"
RELATIONSHIPS = """
UNWIND $rows AS row
MATCH (a:Package {{name: row.source}}), (b:Package {{name: row.target}})
MERGE (a)-[r:{type}]->(b)
ON CREATE SET r.constraint = row.constraint, r.alternatives = row.alternatives
"""

console = Console()


# ----------------------------------------------------------------------------------- kill


class Killer:
    """A thread that kills the current leader every ``interval`` seconds; 0: never.

    A context manager. ``killed`` lists what it killed, ``problem`` says why it stopped early.
    """

    def __init__(self, interval: float, directory: Path, addresses: Sequence[str]) -> None:
        self.killed: list[tuple[int, int]] = []  # (server id, process id)
        self.problem: str | None = None
        self._interval = interval
        self._directory = directory
        self._addresses = addresses
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="killer", daemon=True)

    def _work(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                self._kill_leader()
            except ClusterError as error:
                self.problem = str(error)
                return

    def _kill_leader(self) -> None:
        """Find the leader, waiting for one if there is an election, and kill it."""
        while not self._stop.is_set():
            leader = leader_of(asyncio.run(raft_infos(self._addresses)))
            pid = None if leader is None else kill_server(self._directory, leader)
            if leader is not None and pid is not None:
                self.killed.append((leader, pid))
                return
            self._stop.wait(0.1)

    def __enter__(self) -> Killer:
        if self._interval > 0:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._interval > 0:
            self._thread.join()


# ----------------------------------------------------------------------------------- load


@dataclass(slots=True)
class Loaded:
    """What the load took, in seconds, and the bookmarks of all that was written."""

    package_seconds: float = 0.0
    relationship_seconds: float = 0.0
    resent: int = 0
    bookmarks: Bookmarks = field(default_factory=Bookmarks)


def may_send_again(error: Exception) -> bool:
    """Is this an error after which an *idempotent* transaction is worth sending again?

    Lost connections, and IncompleteCommit with them (a ServiceUnavailable), transient failures
    that outlasted the driver's own patience, and a commit of which the server does not know the
    outcome. Not: a query that is wrong.
    """
    if isinstance(error, (ServiceUnavailable, SessionExpired)):
        return True
    if isinstance(error, Neo4jError):
        return error.is_retryable() or error.code == COMMIT_FAILED
    return False


class Loader:
    """Writes batches, each until it is acknowledged."""

    def __init__(self, driver: Driver, batch: int) -> None:
        self._driver = driver
        self._batch = batch
        self.result = Loaded()

    def write(self, query: str, **parameters: Any) -> None:
        """One idempotent managed transaction, sent again while its outcome is unknown."""

        def work(tx: ManagedTransaction) -> None:
            tx.run(query, parameters).consume()

        deadline = time.monotonic() + BATCH_SECONDS
        while True:
            try:
                with self._driver.session(bookmarks=self.result.bookmarks) as session:
                    session.execute_write(work)
                    self.result.bookmarks = session.last_bookmarks()
                return
            except (DriverError, Neo4jError) as error:
                if not may_send_again(error) or time.monotonic() > deadline:
                    raise
                self.result.resent += 1
                time.sleep(RESEND_SECONDS)

    def create_constraint(self) -> None:
        """The constraint on :Package(name); one that exists is as good."""
        deadline = time.monotonic() + BATCH_SECONDS
        while True:
            try:
                with self._driver.session() as session:
                    session.run(CONSTRAINT).consume()
                    self.result.bookmarks = session.last_bookmarks()
                return
            except (DriverError, Neo4jError) as error:
                if isinstance(error, Neo4jError) and error.code == CONSTRAINT_EXISTS:
                    return
                if not may_send_again(error) or time.monotonic() > deadline:
                    raise
                time.sleep(RESEND_SECONDS)

    def load(self, catalogue: Catalogue, advance: Callable[[str, int], None]) -> Loaded:
        """Everything; ``advance(what, n)`` is called after each batch."""
        began = time.monotonic()
        for query, rows in (
            (PACKAGES, package_rows(catalogue)),
            (VIRTUAL, virtual_rows(catalogue)),
        ):
            for batch in batches(rows, self._batch):
                self.write(query, rows=batch)
                advance("packages", len(batch))
        middle = time.monotonic()
        for kind in RELATIONSHIP_TYPES:
            query = RELATIONSHIPS.format(type=kind)
            for batch in batches(relationship_rows(catalogue, kind), self._batch):
                self.write(query, rows=batch)
                advance("relationships", len(batch))
        self.result.package_seconds = middle - began
        self.result.relationship_seconds = time.monotonic() - middle
        return self.result


def package_rows(catalogue: Catalogue) -> Iterator[dict[str, Any]]:
    """The parameters of real packages."""
    for package in catalogue.packages.values():
        yield {
            "name": package.name,
            "version": package.version,
            "section": package.section,
            "size": package.size,
            "maintainer": package.maintainer,
        }


def virtual_rows(catalogue: Catalogue) -> Iterator[dict[str, Any]]:
    """The parameters of names without a package."""
    return ({"name": name} for name in sorted(catalogue.virtual))


def relationship_rows(catalogue: Catalogue, kind: str) -> Iterator[dict[str, Any]]:
    """The parameters of the relationships of one type."""
    for relationship in catalogue.relationships:
        if relationship.type == kind:
            yield {
                "source": relationship.source,
                "target": relationship.target,
                "constraint": relationship.constraint,
                "alternatives": list(relationship.alternatives) or None,
            }


def batches(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """Lists of at most ``size`` rows."""
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


# -------------------------------------------------------------------------------- compare


def counts(address: str, bookmarks: Bookmarks) -> dict[str, int]:
    """What the server behind this gateway holds, once it has all that ``bookmarks`` stand for."""

    def work(tx: ManagedTransaction) -> dict[str, int]:
        def count(query: str) -> int:
            record = tx.run(query).single(strict=True)
            return int(record[0])

        result = {
            "Package": count("MATCH (p:Package) RETURN count(p)"),
            "Virtual": count("MATCH (p:Virtual) RETURN count(p)"),
            "distinct names": count("MATCH (p:Package) RETURN count(DISTINCT p.name)"),
        }
        for kind in RELATIONSHIP_TYPES:
            result[kind] = count(f"MATCH ()-[r:{kind}]->() RETURN count(r)")
        return result

    with (
        GraphDatabase.driver(
            f"bolt://{address}", max_transaction_retry_time=COMPARE_SECONDS
        ) as driver,
        driver.session(default_access_mode=READ_ACCESS, bookmarks=bookmarks) as session,
    ):
        return session.execute_read(work)


def compare(addresses: Sequence[str], catalogue: Catalogue, bookmarks: Bookmarks) -> bool:
    """Print each server's counts beside the input's; ``True`` if all are equal."""
    expected = catalogue.counts()
    expected["distinct names"] = expected["Package"]
    equal = True
    for server_id, address in enumerate(addresses, 1):
        held = counts(address, bookmarks)
        wrong = {name: n for name, n in held.items() if n != expected[name]}
        if wrong:
            equal = False
            for name, number in wrong.items():
                console.print(
                    f"[red]server {server_id}: {number:,} {name}, the input has {expected[name]:,}"
                )
        else:
            console.print(f"server {server_id}: all counts equal the input's")
    return equal


# ------------------------------------------------------------------------------------ run


def read_input(limit: int | None) -> Catalogue:
    """The catalogue from ``apt-cache``. CatalogueError if there is none, saying how to get it."""
    remedy = "run 'apt-get update' (as root, on Debian or Ubuntu) to fetch the package lists"
    try:
        process = subprocess.Popen(
            ["apt-cache", "dumpavail"],
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    except FileNotFoundError:
        raise CatalogueError(f"there is no apt-cache on this machine; {remedy}") from None
    assert process.stdout is not None
    try:
        catalogue = read_catalogue(process.stdout, limit)
    finally:
        process.stdout.close()
        process.wait()
    if not catalogue.packages:
        raise CatalogueError(f"apt-cache knows no packages; {remedy}")
    return catalogue


def empty(driver: Driver, replace: bool) -> None:
    """See to it that no package is there; ClusterError if there is one and it may not go."""
    with driver.session() as session:
        there = session.execute_read(
            lambda tx: tx.run("MATCH (p:Package) RETURN count(p)").single(strict=True)[0]
        )
        if there and not replace:
            raise ClusterError(
                f"the database holds {there:,} packages already; give --replace to delete them"
            )
        while there:
            there = session.execute_write(
                lambda tx: tx.run(
                    "MATCH (p:Package) WITH p LIMIT 5000 DETACH DELETE p RETURN count(*)"
                ).single(strict=True)[0]
            )


def run_once(
    options: argparse.Namespace, catalogue: Catalogue, cluster: LocalCluster | None, replace: bool
) -> bool:
    """Load under fire, compare, ask. ``True`` if every server holds exactly the input."""
    if cluster is not None:
        addresses, directory = cluster.addresses, cluster.directory
        uri = f"bolt://{addresses[0]}"
    else:
        addresses, directory = gateways(options.address), options.data_directory
        uri = options.address
    asyncio.run(wait_until_healthy(addresses))
    if options.kill_every > 0:
        check_can_kill(directory, addresses)
    with GraphDatabase.driver(uri) as driver:
        driver.verify_connectivity()
        empty(driver, replace)
        loader = Loader(driver, options.batch)
        loader.create_constraint()
        with Killer(options.kill_every, directory, addresses) as killer:
            loaded = load_with_progress(loader, catalogue, killer)
        report(catalogue, loaded, killer)
        if killer.problem is not None:
            raise ClusterError(f"the leaders could not be killed: {killer.problem}")
        asyncio.run(wait_until_healthy(addresses))
        equal = compare(addresses, catalogue, loaded.bookmarks)
        if equal:
            with driver.session(
                default_access_mode=READ_ACCESS, bookmarks=loaded.bookmarks
            ) as session:
                ask(session, console, options.without, options.path_from, options.path_to)
    return equal


def load_with_progress(loader: Loader, catalogue: Catalogue, killer: Killer) -> Loaded:
    """Load, with a bar each for packages and relationships and the number of kills."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[kills]}"),
        console=console,
    ) as progress:
        packages = len(catalogue.packages) + len(catalogue.virtual)
        tasks = {
            "packages": progress.add_task("packages", total=packages, kills=""),
            "relationships": progress.add_task(
                "relationships", total=len(catalogue.relationships), kills=""
            ),
        }

        def advance(what: str, number: int) -> None:
            progress.update(
                tasks[what], advance=number, kills=f"{len(killer.killed)} leaders killed"
            )

        return loader.load(catalogue, advance)


def report(catalogue: Catalogue, loaded: Loaded, killer: Killer) -> None:
    """The rates of the load, elections included."""
    packages = len(catalogue.packages) + len(catalogue.virtual)
    relationships = len(catalogue.relationships)
    console.print(
        f"{packages:,} packages in {loaded.package_seconds:.1f} s: "
        f"{packages / max(loaded.package_seconds, 1e-9):,.0f} a second\n"
        f"{relationships:,} relationships in {loaded.relationship_seconds:.1f} s: "
        f"{relationships / max(loaded.relationship_seconds, 1e-9):,.0f} a second\n"
        f"{len(killer.killed)} leaders killed (server, process): {killer.killed}; "
        f"{loaded.resent} batches sent again after an unknown outcome"
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; ends the program with status 2 when it is wrong."""
    parser = argparse.ArgumentParser(
        description="Load Debian's package catalogue while leaders are killed, compare, and ask."
    )
    parser.add_argument(
        "--address",
        default="bolt://127.0.0.1:7687",
        help="gateway of server 1, bolt:// or neo4j://; the others listen on the next ports",
    )
    parser.add_argument(
        "--data-directory",
        type=Path,
        default=Path("rayft_data"),
        help="the servers' --durability_directory, where their process ids are found",
    )
    parser.add_argument("--start", action="store_true", help="start three servers for this run")
    parser.add_argument("--replace", action="store_true", help="delete packages that are there")
    parser.add_argument("--kill-every", type=float, default=5.0, help="seconds; 0: never")
    parser.add_argument("--batch", type=int, default=2000, help="rows in a transaction")
    parser.add_argument("--limit", type=int, help="only the first N packages")
    parser.add_argument("--times", type=int, default=1, help="do it all so many times")
    parser.add_argument("--without", default="libssl3", help="what breaks without this package?")
    parser.add_argument("--path-from", default="gimp", help="why does this package ...")
    parser.add_argument("--path-to", default="libssl3", help="... need this one?")
    options = parser.parse_args(arguments)
    if options.batch < 1 or options.times < 1 or (options.limit is not None and options.limit < 1):
        parser.error("--batch, --times and --limit must be at least 1")
    if options.kill_every < 0:
        parser.error("--kill-every must not be negative")
    if not options.address.startswith(("bolt://", "neo4j://")):
        parser.error("--address begins with bolt:// or neo4j://")
    return options


def main() -> int:
    """Exit status 0 if the counts were equal on every server, every time; else 1."""
    options = parse()
    try:
        began = time.monotonic()
        catalogue = read_input(options.limit)
        console.print(
            f"{len(catalogue.packages):,} packages, {len(catalogue.virtual):,} virtual ones, "
            f"{len(catalogue.relationships):,} relationships "
            f"read in {time.monotonic() - began:.1f} s"
        )
        equal = True
        for number in range(options.times):
            if options.times > 1:
                console.rule(f"{number + 1} of {options.times}")
            context: AbstractContextManager[LocalCluster | None]
            context = LocalCluster() if options.start else nullcontext()
            with context as cluster:
                replace = options.replace or number > 0
                equal = run_once(options, catalogue, cluster, replace) and equal
    except (CatalogueError, ClusterError, DriverError, Neo4jError, ValueError) as error:
        console.print(f"[red]debian.py: {error}", markup=True, highlight=False)
        return 1
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
