"""Run seeds: ``python -m tests.simulation --seeds 1000 --first 0``.

The last line is ``N passed, M failed``; the exit status is 1 if a seed failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tests.simulation.simulation import Options, Result, run_seed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many (default 200)")
    parser.add_argument("--first", type=int, default=0, help="the first one (default 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--seed", type=int, help="this one alone, with its options")
    parser.add_argument("--trace", action="store_true", help="show every event (with --seed)")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        return _one(given.seed, given.trace)
    return _many(given.first, given.seeds, given.jobs)


def _one(seed: int, trace: bool) -> int:
    result = run_seed(seed, Options(show=print if trace else None))
    print(f"seed {seed}\n{result.swarm.show()}")
    for name, count in result.count.items():
        print(f"  {count:7} {name}")
    print(f"events {result.events}, operations {result.operations}, trace {result.digest}")
    if result.failure is not None:
        print(report(result))
    return _summary(int(result.failure is None), int(result.failure is not None))


def _many(first: int, seeds: int, jobs: int) -> int:
    passed = failed = events = operations = 0
    count: Counter[str] = Counter()
    started = time.monotonic()
    for result in _results(range(first, first + seeds), jobs):
        events += result.events
        operations += result.operations
        count.update({name: 1 for name, number in result.count.items() if number})
        if result.failure is None:
            passed += 1
        else:
            failed += 1
            print(report(result), flush=True)
    seconds = time.monotonic() - started
    print(f"{events} events, {operations} operations in {seconds:.0f} s")
    for name in sorted(count):
        print(f"  {count[name]:6} seeds had: {name}")
    return _summary(passed, failed)


def _results(seeds: range, jobs: int) -> Iterator[Result]:
    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(run_seed, seeds, chunksize=8)


def report(result: Result) -> str:
    """Everything that is needed to find out why a seed failed."""
    assert result.failure is not None
    last = "\n".join(f"    {line}" for line in result.last)
    return (
        f"seed {result.seed} failed, {result.failure.kind}: {result.failure.check}\n"
        f"    {result.failure.text}\n"
        f"  options:\n{result.swarm.show()}\n"
        f"  last events:\n{last}\n"
        f"  again: python -m tests.simulation --seed {result.seed} --trace"
    )


def _summary(passed: int, failed: int) -> int:
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
