"""The Python handle with an embedded database; what is tried stands in ``handle_program.py``."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Place, free_ports

pytestmark = pytest.mark.cluster

PROGRAM = Path(__file__).parent / "handle_program.py"


def names() -> list[str]:
    """The program's checks; it is not imported here, because it imports Ray."""
    functions = [n for n in ast.parse(PROGRAM.read_text()).body if isinstance(n, ast.FunctionDef)]
    return [f.name for f in functions if f.name.startswith("check_")] + ["closed_and_opened_again"]


@pytest.fixture(scope="module")
def reports() -> Iterator[dict[str, str | None]]:
    """What went wrong with each check of the program, or ``None``."""
    with Place() as place:
        arguments = [str(place.data), str(free_ports(5))]
        program = place.run_program([sys.executable, str(PROGRAM), *arguments])
        status = program.wait(seconds=280)
        found = [json.loads(line) for line in program.lines if line.startswith('{"name": ')]
        if status != 0 or not found:
            pytest.fail(f"the program ended with status {status}:\n{program.output}")
        place.wait_until_empty()
        yield {report["name"]: report["error"] for report in found}


@pytest.mark.parametrize("name", names())
def test_handle(reports: dict[str, str | None], name: str) -> None:
    assert reports[name] is None, reports[name]
