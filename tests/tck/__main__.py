"""Run the openCypher TCK: ``python -m tests.tck [FOLDER] [PATTERN ...]``.

FOLDER holds ``features/`` and ``graphs/`` (default: the environment's RAYFT_TCK, else
``../shared/tck``). Patterns choose features by a part of their path or name. Prints every failure,
counts by category, and last ``N passed, M failed``. The exit status is 1 if any failed.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

from tests.tck.features import Scenario, read_corrections, read_feature
from tests.tck.runner import Failed, run_scenario

_DEFAULT = "../shared/tck"


def main(arguments: list[str]) -> int:
    folder = Path(os.environ.get("RAYFT_TCK", _DEFAULT))
    if arguments and Path(arguments[0]).is_dir():
        folder = Path(arguments.pop(0))
    features = folder / "features" if (folder / "features").is_dir() else folder
    graphs = folder / "graphs"
    if not graphs.is_dir():
        graphs = Path(os.environ.get("RAYFT_TCK", _DEFAULT)) / "graphs"
    corrections = read_corrections(folder / "corrections.txt")
    passed: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for path in sorted(features.rglob("*.feature")):
        for scenario in read_feature(path, features):
            shown = f"{scenario.feature} | {scenario.name}"
            if arguments and not any(pattern in shown for pattern in arguments):
                continue
            category = str(Path(scenario.feature).parent)
            problem = _attempt(scenario, graphs)
            correction = corrections.get((scenario.feature, scenario.name))
            if problem is not None and correction is not None:
                problem = _attempt(scenario.corrected(*correction), graphs)
            if problem is None:
                passed[category] += 1
            else:
                failed[category] += 1
                print(f"FAILED {shown}\n      {problem}")
    for category in sorted(set(passed) | set(failed)):
        print(f"{category}: {passed[category]} passed, {failed[category]} failed")
    print(f"{passed.total()} passed, {failed.total()} failed")
    return 1 if failed else 0


def _attempt(scenario: Scenario, graphs: Path) -> str | None:
    """What went wrong, or ``None``."""
    try:
        run_scenario(scenario, graphs)
    except Failed as failure:
        return str(failure)
    except Exception as error:  # a bug of ours must not stop the others
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
