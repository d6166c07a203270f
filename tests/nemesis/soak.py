"""Hours of work on one cluster: does it keep what it holds of the machine within bounds?

    python -m tests.nemesis.soak --hours 7

The workloads follow one another on one cluster of three servers, whose log is compacted often and
whose servers are paused now and then, but never killed, as a process that is new has leaked
nothing. Every pair is judged as ever (``runner.py``); besides, after each, when the graph is that
of the workload alone, the memory, open files, threads and directory of each server and gateway are
noted. At the end each of these is judged: the median of the last quarter may be no larger than that
of the second quarter by more than ``GROWTH_MAX`` and an allowance. (The first quarter is for caches
to fill.) Prints a table row for each pair, and last ``N passed, M failed``: the pairs, and one more
for the bounds.
"""

from __future__ import annotations

import argparse
import logging
import random
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.running import server_pid

from .__main__ import interrupted
from .deployment import Deployment, OneCommand
from .faults import RAFT, Pause
from .runner import Plan, Report, run_pair
from .workloads import WORKLOADS, new_chance

GROWTH_MAX = 1.10
SAMPLES_MIN = 8  # with fewer there are no quarters to compare
THRESHOLD = 1_000  # entries between two snapshots
#: What each figure may grow by on top, for noise.
ALLOWANCE = {"memory_mb": 30.0, "files": 20.0, "threads": 5.0, "disk_mb": 20.0}

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process, and what belongs to it, held after one pair."""

    who: str
    figures: Figures


def sample(deployment: Deployment) -> list[Sample]:
    """The servers and gateways of a deployment, as they are now."""
    found = []
    for server in deployment.members:
        process = server_pid(deployment.place.data, server)
        if process is not None:
            disk = _size_mb(deployment.place.data / f"server_{server}")
            found.append(Sample(f"server {server}", {**_held(process), "disk_mb": disk}))
    words = deployment.place.processes()
    gateways = sorted(process for process, line in words.items() if "GatewayActor" in line)
    return found + [Sample(f"gateway {p}", _held(p)) for p in gateways]


def _held(process: int) -> Figures:
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines()
    )
    return {
        "memory_mb": int(status["VmRSS"].split()[0]) / 1024,
        "files": len(list(Path(f"/proc/{process}/fd").iterdir())),
        "threads": int(status["Threads"]),
    }


def _size_mb(directory: Path) -> float:
    sizes = []
    for path in directory.rglob("*"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:  # compaction removes files meanwhile
            continue
    return sum(sizes) / 2**20


def growth(samples: Sequence[Sequence[Sample]]) -> list[str]:
    """What has grown beyond its bound, from one pair's samples after the other."""
    if len(samples) < SAMPLES_MIN:
        return []
    series: dict[tuple[str, str], list[float]] = defaultdict(list)
    for taken in samples:
        for one in taken:
            for figure, value in one.figures.items():
                series[one.who, figure].append(value)
    found = []
    for (who, figure), values in sorted(series.items()):
        quarter = len(values) // 4
        if quarter == 0:
            continue  # it was there for a short time only
        before = statistics.median(values[quarter : 2 * quarter])
        after = statistics.median(values[-quarter:])
        if after > before * GROWTH_MAX + ALLOWANCE[figure]:
            found.append(f"{figure} of {who} grew from {before:.1f} to {after:.1f}")
    return found


def _row(report: Report, taken: Sequence[Sample]) -> str:
    def most(figure: str) -> str:
        return f"{max((s.figures.get(figure, 0.0) for s in taken), default=0.0):.0f}"

    columns = " | ".join(most(figure) for figure in ALLOWANCE)
    told = "; ".join(report.findings)[:200].replace("\n", " ").replace("|", "/") or "none"
    done = f"{report.ok:,} | {report.failed:,} | {report.unknown:,}"
    return f"| {report.workload} | {done} | {len(report.faults)} | {columns} | {told} |"


HEADER = (
    "| workload | ok | failed | unknown | pauses | memory MB, most | files | threads | disk MB |"
    " findings |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---|"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 if every pair passed and nothing grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis.soak")
    parser.add_argument("--hours", type=float, default=7.0)
    parser.add_argument("--seconds", type=float, default=120.0, help="of each pair")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--keep", type=Path, default=Path("nemesis_failures"))
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, interrupted)
    logging.getLogger("neo4j").setLevel(logging.CRITICAL)
    print(f"seed {options.seed}\n\n{HEADER}", flush=True)
    reports: list[Report] = []
    samples: list[list[Sample]] = []
    end = time.monotonic() + options.hours * 3600
    with OneCommand(**RAFT, log_size_snapshot_threshold=THRESHOLD) as deployment:
        while time.monotonic() < end:
            seed = options.seed + len(reports)
            name = list(WORKLOADS)[len(reports) % len(WORKLOADS)]
            plan = Plan(options.seconds, seed, options.keep)
            nemesis = Pause(deployment, new_chance(seed))
            reports.append(run_pair(deployment, nemesis, WORKLOADS[name](), plan))
            samples.append(sample(deployment))
            print(_row(reports[-1], samples[-1]), flush=True)
    grown = growth(samples)
    print("\n" + "\n".join(grown or ["nothing grew beyond its bound"]))
    passed = sum(report.passed for report in reports) + (not grown)
    print(f"\n{passed} passed, {len(reports) + 1 - passed} failed")
    return int(passed <= len(reports))


if __name__ == "__main__":
    sys.exit(main())
