"""Real processes, real faults; see ``runner.py`` and ``tests/README.md``.

    python -m tests.nemesis --all --seconds 60
    python -m tests.nemesis --workload bank --nemesis kill-leader --seconds 20 --seed 7
    python -m tests.nemesis --all --hours 7

Prints a Markdown table, a row for each pair as it ends. The last line is ``N passed, M failed``;
the exit status is 1 if a pair failed, nothing was run, or it was interrupted, 3 if this machine
cannot play a fault that was asked for by name. With ``--all`` such faults are left out, and a line
says which and why. Each nemesis keeps its cluster over its workloads; a pair that fails is the last
one on a cluster. A seed repeats what clients and faults choose, not how threads and processes meet.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from .faults import Impossible
from .nemeses import NEMESES
from .runner import HEADER, Plan, Report, run_pair
from .workloads import WORKLOADS, new_chance

FAILED_STATUS = 1
IMPOSSIBLE_STATUS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    options = _parsed(arguments)
    signal.signal(signal.SIGTERM, interrupted)
    logging.getLogger("neo4j").setLevel(logging.CRITICAL)  # it tells of each retry
    nemeses = [options.nemesis] if options.nemesis else list(NEMESES)
    workloads = [options.workload] if options.workload else list(WORKLOADS)
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    print(f"seed {seed}\n\n{HEADER}", flush=True)
    reports: list[Report] = []
    impossible: dict[str, str] = {}
    end = time.monotonic() + options.hours * 3600
    whole = True
    try:
        for turn in itertools.count():
            plan = Plan(options.seconds, seed + turn, options.keep)
            for name in nemeses:
                try:
                    for report in _runs(name, workloads, plan):
                        print(report.row(), flush=True)
                        reports.append(report)
                except Impossible as reason:
                    impossible[name] = str(reason)
            if time.monotonic() >= end:
                break
    except KeyboardInterrupt:
        whole = False
        print("\ninterrupted: this is what there is so far")
    status = _summed_up(reports, impossible, by_name=options.nemesis is not None)
    return status if whole else max(status, FAILED_STATUS)


def _runs(name: str, workloads: Sequence[str], plan: Plan) -> Iterator[Report]:
    """The pairs of one nemesis, on one cluster while none fails. Raises ``Impossible``."""
    waiting = list(workloads)
    while waiting:
        with NEMESES[name].deployment_for() as deployment:
            while waiting:
                workload = waiting.pop(0)
                nemesis = NEMESES[name](deployment, new_chance(plan.seed, name, workload))
                report = run_pair(deployment, nemesis, WORKLOADS[workload](), plan)
                yield report
                if not report.passed:
                    break


def _summed_up(reports: list[Report], impossible: dict[str, str], by_name: bool) -> int:
    for report in reports:
        if not report.passed:
            print(f"\n{report.nemesis} x {report.workload}, kept in {report.kept}:")
            for finding in report.findings:
                print("  " + finding.replace("\n", "\n    "))
    for name, reason in impossible.items():
        print(f"\nleft out: {name}: {reason}")
    passed = sum(report.passed for report in reports)
    print(f"\n{passed} passed, {len(reports) - passed} failed")
    if impossible and by_name:
        return IMPOSSIBLE_STATUS
    return FAILED_STATUS if passed < len(reports) or not reports else 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis")
    parser.add_argument("--all", action="store_true", help="every pair (or of what is named)")
    parser.add_argument("--nemesis", choices=NEMESES, help="this fault only")
    parser.add_argument("--workload", choices=WORKLOADS, help="this workload only")
    parser.add_argument("--seconds", type=float, default=60.0, help="of faults, for each pair")
    parser.add_argument(
        "--hours", type=float, default=0.0, help="begin again until so long is over"
    )
    parser.add_argument("--seed", type=int, help="of all choices; drawn and printed if not given")
    parser.add_argument(
        "--keep", type=Path, default=Path("nemesis_failures"), help="where failed runs are kept"
    )
    options = parser.parse_args(arguments)
    if not (options.all or options.nemesis or options.workload):
        parser.error("name a --nemesis, a --workload, or --all")
    return options


def interrupted(_number: int, _frame: object) -> NoReturn:
    """A signal to end ends the runs as Ctrl-C does, so that everything is cleaned up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # cleaning up takes a moment; once is enough
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
