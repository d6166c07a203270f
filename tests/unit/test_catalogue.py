"""The parser of the package catalogue, the questions put to the graph, and the loader's retry."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "benchmarks")]

import catalogue as parser  # noqa: E402
import debian  # noqa: E402
import questions  # noqa: E402
from neo4j import Bookmarks  # noqa: E402
from neo4j.exceptions import (  # noqa: E402
    IncompleteCommit,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
)

SAMPLE = """\
Package: editor
Version: 1:2.0-1
Installed-Size: 120
Maintainer: A Team <team@example.org>
Architecture: amd64
Depends: libc6 (>= 2.34), libc6 (<< 3), python3:any, mta-a | mta-b (>= 1) | mail-agent,
Pre-Depends: libc6
Recommends: spell
Description: an editor
 with a long description: several lines
Tag: role::program,
 uitoolkit::sdl
Section: text

Package: libc6
Version: 2.36
Section: libs
Provides: libc (= 2.36), libc-bin

Package: mta-a
Version: 1
Provides: mail-agent
"""


def read(text: str, limit: int | None = None) -> parser.Catalogue:
    return parser.read_catalogue(text.splitlines(keepends=True), limit)


def edges(catalogue: parser.Catalogue) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    return {
        (r.source, r.type, r.target): (r.constraint, r.alternatives)
        for r in catalogue.relationships
    }


def test_reads_packages_with_their_fields() -> None:
    packages = read(SAMPLE).packages
    assert packages["editor"] == parser.Package(
        "editor", "1:2.0-1", "text", 120, "A Team <team@example.org>"
    )
    assert packages["libc6"] == parser.Package("libc6", "2.36", "libs", None, None)


def test_reads_relationships() -> None:
    group = ("mta-a | mta-b | mail-agent",)
    assert edges(read(SAMPLE)) == {
        ("editor", "PRE_DEPENDS", "libc6"): (None, ()),
        ("editor", "DEPENDS", "libc6"): (">= 2.34, << 3", ()),
        ("editor", "DEPENDS", "python3"): (None, ()),
        ("editor", "DEPENDS", "mta-a"): (None, group),
        ("editor", "DEPENDS", "mta-b"): (">= 1", group),
        ("editor", "DEPENDS", "mail-agent"): (None, group),
        ("editor", "RECOMMENDS", "spell"): (None, ()),
        ("libc6", "PROVIDES", "libc"): ("= 2.36", ()),
        ("libc6", "PROVIDES", "libc-bin"): (None, ()),
        ("mta-a", "PROVIDES", "mail-agent"): (None, ()),
    }


def test_names_without_a_package_are_virtual_and_counted() -> None:
    catalogue = read(SAMPLE)
    assert catalogue.virtual == {"python3", "mta-b", "mail-agent", "spell", "libc", "libc-bin"}
    assert catalogue.counts() == {
        "Package": 9,
        "Virtual": 6,
        "PRE_DEPENDS": 1,
        "DEPENDS": 5,
        "RECOMMENDS": 1,
        "PROVIDES": 3,
    }


def test_limit_keeps_the_first_packages_and_what_they_point_to() -> None:
    catalogue = read(SAMPLE, limit=1)
    assert list(catalogue.packages) == ["editor"]
    assert "libc6" in catalogue.virtual


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        # A requirement of its own outweighs being one of several.
        ("a | b, a", {"a": (None, ()), "b": (None, ("a | b",))}),
        ("a, a | b", {"a": (None, ()), "b": (None, ("a | b",))}),
        # Both sides of a bar the same package: no choice at all.
        ("nodejs:any | nodejs (<< 12)", {"nodejs": ("<< 12", ())}),
        (
            "a | b, a | c",
            {"a": (None, ("a | b", "a | c")), "b": (None, ("a | b",)), "c": (None, ("a | c",))},
        ),
        ("a | b, a | b", {"a": (None, ("a | b",)), "b": (None, ("a | b",))}),
        ("a (>= 1), a (>= 1)", {"a": (">= 1", ())}),
        ("a:i386(=1:2.0~rc1-1) [amd64] <!nocheck>", {"a": ("= 1:2.0~rc1-1", ())}),
        ("", {}),
    ],
)
def test_one_relationship_per_target(field: str, expected: dict[str, Any]) -> None:
    catalogue = read(f"Package: x\nVersion: 1\nDepends: {field}\n")
    assert {target: said for (_, _, target), said in edges(catalogue).items()} == expected


@pytest.mark.parametrize(
    "ascending",
    [
        ["1.0~~", "1.0~rc1", "1.0", "1.0-1~bpo1", "1.0-1", "1.0-1+b1", "1.0-2", "1.0-10"],
        ["1.0", "1.0a", "1.0.1", "1.2", "1.10", "2", "1:0.1"],
        ["0.0.26-3", "0.0.26-3+deb12u1", "0.0.27-1"],
    ],
)
def test_versions_are_ordered_as_by_dpkg(ascending: list[str]) -> None:
    for low, high in itertools.combinations(ascending, 2):
        assert parser.version_key(low) < parser.version_key(high), (low, high)
    assert parser.version_key("1.") == parser.version_key("1.0") == parser.version_key("0:1.0")


def test_the_newest_of_several_versions_is_kept() -> None:
    stanza = "Package: x\nVersion: {}\nDepends: {}\n\n"
    text = stanza.format("1.9", "a") + stanza.format("1.10", "b") + stanza.format("1.2", "c")
    catalogue = read(text)
    assert catalogue.packages["x"].version == "1.10"
    assert [r.target for r in catalogue.relationships] == ["b"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("no field here\n", "line 1"),
        (" continued\n", "none has begun"),
        ("Package: x\n\n", "without Package or Version"),
        ("Package: x\nVersion: 1\nDepends: a (>> )\n", "package x: not a dependency: 'a (>> )'"),
        ("Package: x\nVersion: 1\nDepends: a | | b\n", "package x"),
    ],
)
def test_what_is_no_catalogue_is_refused(text: str, part: str) -> None:
    with pytest.raises(parser.CatalogueError) as caught:
        read(text)
    assert part in str(caught.value)


def test_reading_is_lazy() -> None:
    """A stanza is handed out when its empty line is read, not at the end of the input."""
    consumed = []

    def lines() -> Any:
        for number, line in enumerate(SAMPLE.splitlines(keepends=True)):
            consumed.append(number)
            yield line

    first = next(parser.stanzas(lines()))
    assert first["Package"] == "editor"
    assert len(consumed) < len(SAMPLE.splitlines()) / 2 + 5


def test_no_apt_cache_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "Popen", missing)
    with pytest.raises(parser.CatalogueError, match="apt-get update"):
        debian.read_input(None)


# ----------------------------------------------------------------------------- questions


class GraphInMemory:
    """Answers the queries of ``what_breaks`` from a catalogue, as a session would."""

    def __init__(self, catalogue: parser.Catalogue) -> None:
        self.catalogue = catalogue

    def run(self, query: str, names: list[str] | None = None) -> list[dict[str, Any]]:
        relationships = self.catalogue.relationships
        provides = [r for r in relationships if r.type == "PROVIDES"]
        if query == questions.NEVER_THERE:
            provided = {r.target for r in provides}
            return [{"name": name} for name in self.catalogue.virtual - provided]
        assert names is not None
        if query == questions.PROVIDED:
            return [{"name": r.target} for r in provides if r.source in names]
        if query == questions.PROVIDERS:
            return [
                {
                    "name": name,
                    "virtual": name in self.catalogue.virtual,
                    "providers": [r.source for r in provides if r.target == name],
                }
                for name in names
            ]
        assert query == questions.DEPENDENTS
        return [
            {"package": r.source, "alternatives": list(r.alternatives) or None}
            for r in relationships
            if r.target in names and r.type in ("DEPENDS", "PRE_DEPENDS")
        ]


def graph(**depends: str) -> GraphInMemory:
    """Packages by name, ``field; provides`` as the value."""
    text = ""
    for name, value in depends.items():
        field, _, provides = value.partition(";")
        text += f"Package: {name}\nVersion: 1\nDepends: {field}\nProvides: {provides}\n\n"
    return GraphInMemory(read(text))


@pytest.mark.parametrize(
    ("packages", "waves"),
    [
        ({"x": "", "a": "x", "b": "a", "c": "b, x"}, [{"a", "c"}, {"b"}]),
        ({"x": "", "y": "", "a": "x | y"}, []),
        ({"x": "", "y": "x", "a": "x | y"}, [{"y"}, {"a"}]),
        ({"x": "", "a": "x | missing"}, [{"a"}]),
        ({"x": "a", "a": "x"}, [{"a"}]),  # a cycle comes to an end
        ({"x": ";virtual", "a": "virtual"}, [{"a"}]),
        ({"x": ";virtual", "y": ";virtual", "a": "virtual"}, []),
        ({"x": ";virtual", "y": "x;virtual", "a": "virtual"}, [{"y"}, {"a"}]),
        ({"x": "", "y": ";x", "a": "x"}, []),  # y stands in for x
        ({"x": "", "a": "missing"}, []),
        ({"x": "", "a": "x | p, x | q", "p": "x", "q": ""}, [{"p"}, {"a"}]),
    ],
)
def test_what_breaks(packages: dict[str, str], waves: list[set[str]]) -> None:
    session: Any = graph(**packages)
    assert questions.what_breaks(session, "x") == waves


# -------------------------------------------------------------------------------- loader


class FlakyDriver:
    """A driver whose transactions fail as told, one error (or ``None``) for each."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.sent: list[dict[str, Any]] = []

    def session(self, **_: object) -> FlakyDriver:
        return self

    def __enter__(self) -> FlakyDriver:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def execute_write(self, work: Any) -> None:
        work(self)
        outcome = self.outcomes.pop(0)
        if outcome is not None:
            raise outcome

    def run(self, query: str, parameters: dict[str, Any] | None = None) -> FlakyDriver:
        self.sent.append({"query": query, "parameters": parameters})
        return self

    def consume(self) -> None:
        return None

    def last_bookmarks(self) -> Bookmarks:
        return Bookmarks.from_raw_values(["mark"])


def failed(code: str) -> Neo4jError:
    return Neo4jError._hydrate_neo4j(code=code, message="told to")


@pytest.mark.parametrize(
    "error",
    [
        ServiceUnavailable("gone"),
        SessionExpired("gone"),
        IncompleteCommit("COMMIT was on its way"),
        failed(debian.COMMIT_FAILED),
        failed("Neo.TransientError.General.DatabaseUnavailable"),
        failed("Neo.ClientError.Cluster.NotALeader"),
    ],
)
def test_a_batch_of_unknown_outcome_is_sent_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "RESEND_SECONDS", 0)
    driver: Any = FlakyDriver(error, error, None)
    loader = debian.Loader(driver, batch=10)
    loader.write("QUERY", rows=[1])
    assert driver.sent == [{"query": "QUERY", "parameters": {"rows": [1]}}] * 3
    assert loader.result.resent == 2
    assert loader.result.bookmarks.raw_values == {"mark"}


@pytest.mark.parametrize(
    "code", ["Neo.ClientError.Statement.SyntaxError", "Neo.DatabaseError.General.UnknownError"]
)
def test_a_wrong_query_is_not_sent_again(code: str) -> None:
    driver: Any = FlakyDriver(failed(code))
    with pytest.raises(Neo4jError):
        debian.Loader(driver, batch=10).write("QUERY", rows=[])
    assert len(driver.sent) == 1


def test_load_sends_everything_once_in_batches() -> None:
    catalogue = read(SAMPLE)
    driver: Any = FlakyDriver(*[None] * 100)
    advanced: dict[str, int] = {"packages": 0, "relationships": 0}

    def advance(what: str, number: int) -> None:
        advanced[what] += number

    debian.Loader(driver, batch=2).load(catalogue, advance)
    assert advanced == {"packages": 9, "relationships": 10}
    batches = [sent["parameters"]["rows"] for sent in driver.sent]
    assert max(map(len, batches)) == 2
    rows = [row for batch in batches for row in batch]
    assert sorted(row["name"] for row in rows if "name" in row) == sorted(
        catalogue.packages.keys() | catalogue.virtual
    )
    assert len({(row["source"], row["target"]) for row in rows if "source" in row}) == 9
    assert sum("source" in row for row in rows) == 10
