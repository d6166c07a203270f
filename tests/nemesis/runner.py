"""One pair of workload and nemesis after the other, and what came of each.

A pair goes so: an empty graph; clients start; faults come and go for the time given; everything is
healed; within a bound all servers must answer in one term and each client must have been answered;
the clients stop; each server is read as of the end; the checkers judge; all servers must have the
same graph and each be at one with itself; and nothing may stand in the logs, or have died, that
nobody caused. A pair passes if there is no finding, no checker is undecided, and the fault happened
often enough. The history of one that fails is kept, with the servers' logs.
"""

from __future__ import annotations

import hashlib
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import neo4j

from tests.checkers.history import Outcome, to_json
from tests.checkers.integrity_queries import check_integrity_by_queries
from tests.cluster.running import eventually

from .clients import Client, Doors, Recorder
from .deployment import Deployment
from .faults import HAPPENED_MIN, Nemesis
from .workloads import Workload, clients_of, new_chance

CLIENTS = 6
PAUSE_SECONDS = 0.04  # mean, between two operations of a client
HEAL_SECONDS = 90.0  # until everything serves again
PROGRESS_SECONDS = 60.0  # until every client has been answered
STOP_SECONDS = 60.0  # the longest that one operation may take
CONVERGE_SECONDS = 60.0
PATIENCE_SECONDS = 180.0  # beyond the time given, until enough faults have happened
FINDINGS_MAX = 20  # of the logs


@dataclass
class Report:
    """What came of one pair."""

    nemesis: str
    workload: str
    ok: int = 0
    failed: int = 0
    unknown: int = 0
    faults: list[str] = field(default_factory=list)
    terms: int = 0  # elections won while it ran
    findings: list[str] = field(default_factory=list)
    kept: Path | None = None  # where the history of a failed pair is

    @property
    def passed(self) -> bool:
        return not self.findings

    def row(self) -> str:
        """A row of the table of ``HEADER``."""
        told = "; ".join(self.findings)[:200].replace("\n", " ").replace("|", "/") or "none"
        done = f"{self.ok:,} | {self.failed:,} | {self.unknown:,}"
        faults = f"{len(self.faults)} | {self.terms}"
        return f"| {self.nemesis} | {self.workload} | {done} | {faults} | {told} |"


HEADER = (
    "| nemesis | workload | ok | failed | unknown | faults | elections | findings |\n"
    "|---|---|---:|---:|---:|---:|---:|---|"
)


@dataclass(frozen=True)
class Plan:
    """How long, from which seed, and where failures are kept."""

    seconds: float
    seed: int
    keep: Path


def run_pair(deployment: Deployment, nemesis: Nemesis, workload: Workload, plan: Plan) -> Report:
    """Run one pair on a running cluster. Errors of the cluster become findings of the report."""
    report = Report(nemesis.name, workload.name)
    recorder = Recorder()
    deployment.resume()
    doors = Doors(lambda: {server: deployment.address(server) for server in deployment.members})
    try:
        _run(deployment, nemesis, workload, plan, recorder, doors, report)
    except Exception as error:
        report.findings.append(f"the run broke off: {error!r}\n{traceback.format_exc()}")
    finally:
        nemesis.heal()
        doors.close()
    report.faults = nemesis.happened
    report.ok, report.failed, report.unknown = (
        recorder.count(outcome) for outcome in (Outcome.OK, Outcome.FAILED, Outcome.UNKNOWN)
    )
    if len(nemesis.happened) < HAPPENED_MIN:
        report.findings.append(f"the fault happened {len(nemesis.happened)} times only")
    report.findings += [f"{n} times {what}" for what, n in recorder.unexpected.items()]
    report.findings += deployment.trouble(nemesis.causes)[:FINDINGS_MAX]
    if report.findings:
        _keep(deployment, recorder, report, plan)
    return report


def _run(
    deployment: Deployment,
    nemesis: Nemesis,
    workload: Workload,
    plan: Plan,
    recorder: Recorder,
    doors: Doors,
    report: Report,
) -> None:
    leader = deployment.wait_until_whole(HEAL_SECONDS)
    _empty(doors, leader)
    workload.setup(lambda query, **named: _run_at(doors.of(leader), query, **named))
    term = _term(deployment)
    clients = [
        Client(index, doors, recorder, new_chance(plan.seed, nemesis.name, workload.name, index))
        for index in range(CLIENTS)
    ]
    with _working(workload, clients):
        _harm(nemesis, plan)
        deployment.wait_until_whole(HEAL_SECONDS)
        _wait_for_progress(clients, recorder)
    report.terms = _term(deployment) - term
    _read_finally(deployment, doors, workload, recorder, report)
    verdict = workload.check(recorder.history)
    report.findings += verdict.findings
    if verdict.valid is not True and not verdict.findings:
        report.findings.append(f"the checker says {verdict.valid}, without a reason")


@contextmanager
def _working(workload: Workload, clients: Sequence[Client]) -> Iterator[None]:
    """Clients at work; at the end each must finish what it does in time."""
    stopped = threading.Event()
    threads = list(clients_of(workload, clients, stopped, PAUSE_SECONDS))
    for thread in threads:
        thread.start()
    try:
        yield
        assert all(thread.is_alive() for thread in threads), "a client has broken off"
    finally:
        stopped.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "an operation does not end"


def _harm(nemesis: Nemesis, plan: Plan) -> None:
    """Faults come and go until the time is over and enough have happened; then all is healed."""
    deadline = time.monotonic() + plan.seconds
    last = deadline + PATIENCE_SECONDS
    while (now := time.monotonic()) < deadline or (
        len(nemesis.happened) < HAPPENED_MIN and now < last
    ):
        time.sleep(nemesis.chance.uniform(*nemesis.rest_seconds))
        nemesis.inject()
        time.sleep(nemesis.chance.uniform(*nemesis.harm_seconds))
        nemesis.heal()


def _wait_for_progress(clients: Sequence[Client], recorder: Recorder) -> None:
    """Every client is answered again."""
    since = time.monotonic_ns()

    def answered() -> bool:
        recent = [
            operation.client
            for operation in recorder.history[-4000:]
            if operation.outcome is Outcome.OK and operation.invoked > since
        ]
        return {client.number for client in clients} <= set(recent)

    eventually(answered, "every client is answered again", PROGRESS_SECONDS)


def _read_finally(
    deployment: Deployment, doors: Doors, workload: Workload, recorder: Recorder, report: Report
) -> None:
    """Read each server as of the end, compare them, and ask each whether it is at one."""
    leader = deployment.wait_until_whole(HEAL_SECONDS)
    with doors.of(leader).session() as session:
        session.run("RETURN 1").consume()
        bookmarks = session.last_bookmarks()
    graphs: dict[int, str] = {}
    for server in deployment.members:
        client = Client(CLIENTS + server, doors, recorder, new_chance(0))
        options: dict[str, Any] = {
            "default_access_mode": neo4j.READ_ACCESS,
            "bookmarks": bookmarks,
        }
        with doors.of(server).session(**options) as session:

            def ask(query: str, _session: neo4j.Session = session, **named: Any) -> Any:
                text = neo4j.Query(query, timeout=CONVERGE_SECONDS)  # type: ignore[arg-type]
                return [record.values() for record in _session.run(text, named)]

            workload.final(client, ask)
            graphs[server] = _fingerprint(ask)
            with session.begin_transaction() as tx:
                audit = check_integrity_by_queries(
                    lambda text, named, _tx=tx: _tx.run(text, named).values()
                )
            report.findings += [f"server {server}: {finding}" for finding in audit.findings]
    if len(set(graphs.values())) > 1:
        report.findings.append(f"the servers have different graphs: {graphs}")


def _fingerprint(ask: Any) -> str:
    found = hashlib.sha256()
    for query in (
        "MATCH (n) RETURN id(n), labels(n), properties(n) ORDER BY id(n)",
        "MATCH (a)-[r]->(b) RETURN id(r), type(r), id(a), id(b), properties(r) ORDER BY id(r)",
    ):
        for row in ask(query):
            cells = [sorted(cell.items()) if isinstance(cell, dict) else cell for cell in row]
            found.update(repr(cells).encode())
    return found.hexdigest()[:16]


def _term(deployment: Deployment) -> int:
    return max((info.term for info in deployment.infos().values() if info), default=0)


def _empty(doors: Doors, leader: int) -> None:
    driver = doors.of(leader)
    while _run_at(driver, "MATCH (n) WITH n LIMIT 2000 DETACH DELETE n RETURN count(n)")[0][0]:
        pass
    for kind, kinds in (("CONSTRAINT", "CONSTRAINTS"), ("INDEX", "INDEXES")):
        for (name,) in _run_at(driver, f"SHOW {kinds} YIELD name"):
            _run_at(driver, f"DROP {kind} `{name}` IF EXISTS")


def _run_at(driver: neo4j.Driver, query: str, **named: Any) -> list[list[Any]]:
    """All rows, tried again: setting up may meet the last throes of the pair before."""
    with driver.session() as session:
        for attempt in range(5):
            try:
                return [r.values() for r in session.run(query, named)]  # type: ignore[arg-type]
            except neo4j.exceptions.TransientError:
                if attempt == 4:
                    raise
                time.sleep(1)
    raise AssertionError("unreachable")


def _keep(deployment: Deployment, recorder: Recorder, report: Report, plan: Plan) -> None:
    """Keep what is needed to find out why."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    report.kept = plan.keep / f"{report.nemesis}-{report.workload}-{plan.seed}-{stamp}"
    report.kept.mkdir(parents=True, exist_ok=True)
    history = sorted(recorder.history, key=lambda operation: operation.invoked)
    with (report.kept / "history.jsonl").open("w") as file:
        file.writelines(to_json(operation) + "\n" for operation in history)
    lines = [*report.findings, "", "faults:", *report.faults, "", f"errors: {recorder.errors}"]
    (report.kept / "findings.txt").write_text("\n".join(lines) + "\n")
    deployment.keep_logs(report.kept)
