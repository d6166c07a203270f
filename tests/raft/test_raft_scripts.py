"""The scripts of ``testdata`` do what is written in them.

REWRITE=1 in the environment writes what they do now; read the difference before you commit it,
because the text is the expectation. ``script.py`` explains the language.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import pytest
import script
from script_world import ScriptError

TESTDATA = Path(__file__).parent / "testdata"
PATHS = sorted(TESTDATA.glob("*.txt"))
HEAD = "# A script.\n> add-server 1,2,3\n"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    expected, actual = script.run_file(path)
    if os.environ.get("REWRITE") == "1":
        path.write_text(actual)
        return
    lines = difflib.unified_diff(
        expected.splitlines(), actual.splitlines(), f"{path.name} expects", "and it does", "", ""
    )
    assert expected == actual, "REWRITE=1 would accept this:\n" + "\n".join(lines)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_script_begins_by_saying_what_it_shows(path: Path) -> None:
    assert path.read_text().startswith("# ")


def test_there_is_a_script_for_each_part_of_the_protocol() -> None:
    assert len(PATHS) >= 70


def test_every_command_is_used_somewhere() -> None:
    words: set[str] = set()
    for path in PATHS:
        for line in path.read_text().splitlines():
            if line.startswith(">"):
                words |= set(line.split()[1:3])
    assert not set(script.COMMANDS) - words


# The interpreter itself


def test_output_is_written_under_its_command_and_old_output_is_replaced() -> None:
    source = "# Title.\n> add-server 1\n> campaign 1\nstale output\n\n# Remark.\n> quiet run 50\n"
    result = script.run(source, "x")
    assert "stale" not in result
    assert result.startswith("# Title.\n> add-server 1\n> campaign 1\n1 at 100 ms\n  becomes  ")
    assert "\n\n# Remark.\n> quiet run 50\n1 becomes leader, term 1\n1 commits to 1\n" in result
    assert script.run(result, "x") == result


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("jump 1", "unknown command; there are add-member, add-server"),
        ("quiet", "unknown command"),
        ("campaign 4", "there is no server 4"),
        ("campaign 1,2", "give one server"),
        ("campaign one", "'one' is not a number"),
        ("add-server 1", "there is a server 1 already"),
        ("add-server 4 colour=5", "unknown option colour"),
        ("deliver 1->2", "no such message is under way"),
        ("persist 1", "none of them has a write"),
        ("restart 1", "is running"),
        ("stall 1 network", "give disk or machine"),
        ("install 1", "no complete snapshot"),
        ("snapshot 1", "applied nothing"),
        ("wait", "IndexError"),
    ],
)
def test_a_wrong_command_is_shown_with_its_line(command: str, complaint: str) -> None:
    with pytest.raises((ScriptError, AssertionError), match=f"x:3: > {command}") as caught:
        script.run(f"{HEAD}> {command}\n", "x")
    assert complaint in str(caught.value)


def test_output_before_any_command_is_refused() -> None:
    with pytest.raises(ScriptError, match="x:1: output that belongs to no command"):
        script.run("1 becomes leader\n", "x")


def test_a_run_that_breaks_safety_does_not_pass() -> None:
    """Two servers that were given different entries as committed: the world notices."""
    source = "# x\n> add-server 1 voters=1 log=1\n> add-server 2 voters=2 log=2\n> run 500\n"
    with pytest.raises(AssertionError, match="entry 1 was committed as"):
        script.run(source, "x")


def test_two_leaders_of_one_term_do_not_pass() -> None:
    source = "# x\n> add-server 1 voters=1\n> add-server 2 voters=2\n> run 500\n"
    with pytest.raises(AssertionError, match="both lead in term 1"):
        script.run(source, "x")
