"""Debian's package catalogue as a graph: a streaming parser of ``apt-cache dumpavail``.

The input is text in stanzas, one per package, ``Field: value`` lines, continuation lines indented
(Debian Policy, section 5.1). Lines are read once and only the fields of interest are kept, so
memory follows the graph and not the text. What comes out is a ``Catalogue``:

* ``packages``: name -> ``Package``. Where a name comes twice (several versions, several
  architectures) the newest version is kept, by the ordering of Debian Policy 5.6.12; of equal
  versions the last.
* ``virtual``: names that somebody depends on or provides although no package bears them.
* ``relationships``: one per (source, type, target). The same target named twice in one field
  (``a (>= 1), a (<< 2)``, or in two groups of alternatives) makes one relationship, so the
  number of relationships is well defined and a load can be checked by counting.

``a | b`` is a group of alternatives: each of them becomes a relationship that carries the whole
group in ``alternatives``. A relationship without ``alternatives`` is a requirement of its own. The
architecture in ``python3:any`` is dropped: it says which build will do, not which package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

# Debian's field -> relationship type in the graph.
DEPENDENCY_FIELDS = {
    "Pre-Depends": "PRE_DEPENDS",
    "Depends": "DEPENDS",
    "Recommends": "RECOMMENDS",
}
PROVIDES = "PROVIDES"
RELATIONSHIP_TYPES = (*DEPENDENCY_FIELDS.values(), PROVIDES)

_FIELDS = frozenset(
    (
        "Package",
        "Version",
        "Section",
        "Installed-Size",
        "Maintainer",
        "Provides",
        *DEPENDENCY_FIELDS,
    )
)

# Some fields run to tens of kilobytes (a meta package); nothing honest comes near this.
_FIELD_CHARACTERS_MAX = 4 << 20

_ITEM = re.compile(
    r"""(?P<name>[a-zA-Z0-9][a-zA-Z0-9+.\-_]*)  # Policy 5.6.1, and what others make of it
        (?: : (?P<architecture>[a-z0-9\-]+) )? \s*
        (?: \( \s* (?P<operator><<|<=|=|>=|>>|<|>) \s* (?P<version>[^\s()<>=]+) \s* \) \s* )?
        (?: \[ [^\]]* \] \s* )?                 # architectures and build profiles say when an
        (?: < [^>]* > \s* )*                    # entry holds; binary packages have none left
    """,
    re.VERBOSE,
)
_VERSION_PART = re.compile(r"(\D*)(\d*)")


class CatalogueError(ValueError):
    """The text is not a package catalogue; the message names the package and what was read."""


@dataclass(frozen=True, slots=True)
class Package:
    """One real package. ``size`` is the installed size in KiB, ``None`` where none is given."""

    name: str
    version: str
    section: str | None
    size: int | None
    maintainer: str | None


@dataclass(frozen=True, slots=True)
class Alternative:
    """One name in a dependency; ``constraint`` like ``>= 1.2``, ``None`` when any version does."""

    name: str
    constraint: str | None


@dataclass(frozen=True, slots=True)
class Relationship:
    """An edge; ``alternatives`` holds the groups (``a | b``) it is part of, empty if required."""

    source: str
    type: str
    target: str
    constraint: str | None
    alternatives: tuple[str, ...]


@dataclass(slots=True)
class Catalogue:
    """The graph to load; see the module's docstring for what each part holds."""

    packages: dict[str, Package] = field(default_factory=dict)
    virtual: set[str] = field(default_factory=set)
    relationships: list[Relationship] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """What a database that holds this catalogue and nothing else has to answer."""
        result = {
            "Package": len(self.packages) + len(self.virtual),
            "Virtual": len(self.virtual),
        }
        result.update(dict.fromkeys(RELATIONSHIP_TYPES, 0))
        for relationship in self.relationships:
            result[relationship.type] += 1
        return result


def stanzas(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """The stanzas of ``lines``, fields of interest only, continuation lines joined.

    Raises ``CatalogueError`` for a line that is neither a field, a continuation nor empty.
    """
    stanza: dict[str, str] = {}
    name: str | None = None
    seen = False
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip()
        if not line:
            if stanza:
                yield stanza
            stanza, name, seen = {}, None, False
        elif line[0] in " \t":
            if not seen:
                raise CatalogueError(f"line {number} continues a field, but none has begun")
            if name is not None:
                stanza[name] += " " + line.strip()
                if len(stanza[name]) > _FIELD_CHARACTERS_MAX:
                    raise CatalogueError(
                        f"line {number}: the field {name} is longer than "
                        f"{_FIELD_CHARACTERS_MAX} characters; is this a package catalogue?"
                    )
        else:
            key, colon, value = line.partition(":")
            if not colon:
                raise CatalogueError(
                    f"line {number} is no 'Field: value' line: {line[:60]!r}; "
                    "give the output of 'apt-cache dumpavail'"
                )
            seen = True
            name = key if key in _FIELDS else None
            if name is not None:
                stanza[name] = value.strip()
    if stanza:
        yield stanza


def parse_dependencies(text: str) -> list[list[Alternative]]:
    """A dependency field (Debian Policy, section 7.1) as groups of alternatives.

    Raises ``CatalogueError`` that quotes the entry which is not understood.
    """
    groups = []
    for entry in text.split(","):
        if not entry.strip():
            continue  # a trailing comma is common and harmless
        group = []
        for item in entry.split("|"):
            match = _ITEM.fullmatch(item.strip())
            if match is None:
                raise CatalogueError(f"not a dependency: {item.strip()!r}")
            operator, version = match["operator"], match["version"]
            constraint = f"{operator} {version}" if operator else None
            group.append(Alternative(match["name"], constraint))
        groups.append(group)
    return groups


def version_key(version: str) -> tuple[Any, ...]:
    """A sort key that orders versions as dpkg does (Debian Policy, section 5.6.12).

    A string is cut into non-digits and digits in turn. In the non-digits a tilde sorts before
    the end of the string, the end before letters, letters before everything else.
    """
    epoch, colon, rest = version.partition(":")
    if not colon or not epoch.isdigit():
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return int(epoch), _part_key(upstream), _part_key(revision)


def _part_key(text: str) -> tuple[Any, ...]:
    key: list[Any] = []
    for other, digits in _VERSION_PART.findall(text):
        if other or digits:
            key += ((*map(_character_order, other), 0), int(digits or 0))
    key.append((0,))  # the end: after a tilde, before anything else
    return tuple(key)


def _character_order(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 0x110000


def read_catalogue(lines: Iterable[str], limit: int | None = None) -> Catalogue:
    """The whole catalogue, or the first ``limit`` packages of it with all they point to.

    Raises ``CatalogueError`` that names the package whose stanza is wrong.
    """
    newest: dict[str, dict[str, str]] = {}
    for stanza in stanzas(lines):
        name = stanza.get("Package")
        if not name or "Version" not in stanza:
            raise CatalogueError(f"a stanza without Package or Version: {stanza!r:.200}")
        held = newest.get(name)
        if held is None:
            if limit is not None and len(newest) >= limit:
                break
            newest[name] = stanza
        elif version_key(stanza["Version"]) >= version_key(held["Version"]):
            newest[name] = stanza
    catalogue = Catalogue()
    for name, stanza in newest.items():
        catalogue.packages[name] = _package(stanza)
        try:
            catalogue.relationships += _relationships(name, stanza)
        except CatalogueError as error:
            raise CatalogueError(f"package {name}: {error}") from None
    targets = {relationship.target for relationship in catalogue.relationships}
    catalogue.virtual = targets - catalogue.packages.keys()
    return catalogue


def _package(stanza: dict[str, str]) -> Package:
    size = stanza.get("Installed-Size", "")
    return Package(
        name=stanza["Package"],
        version=stanza["Version"],
        section=stanza.get("Section"),
        size=int(size) if size.isascii() and size.isdigit() else None,
        maintainer=stanza.get("Maintainer"),
    )


def _relationships(source: str, stanza: dict[str, str]) -> Iterator[Relationship]:
    for name, kind in DEPENDENCY_FIELDS.items():
        if name in stanza:
            yield from _one_per_target(source, kind, parse_dependencies(stanza[name]))
    if "Provides" in stanza:
        yield from _one_per_target(source, PROVIDES, parse_dependencies(stanza["Provides"]))


def _one_per_target(
    source: str, kind: str, groups: list[list[Alternative]]
) -> Iterator[Relationship]:
    """Fold what one field says of one target: constraints joined, a plain requirement wins."""
    constraints: dict[str, list[str]] = {}
    alternatives: dict[str, list[str]] = {}
    required: set[str] = set()
    for group in groups:
        names = list(dict.fromkeys(item.name for item in group))
        text = " | ".join(names)
        for item in group:
            held = constraints.setdefault(item.name, [])
            if item.constraint is not None and item.constraint not in held:
                held.append(item.constraint)
            if len(names) == 1:
                required.add(item.name)
            elif text not in (said := alternatives.setdefault(item.name, [])):
                said.append(text)
    for target, held in constraints.items():
        said = [] if target in required else alternatives[target]
        yield Relationship(source, kind, target, ", ".join(held) or None, tuple(said))
