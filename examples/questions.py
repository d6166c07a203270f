"""Three questions to the package graph: what breaks, what matters, and why.

*What breaks without X* is a least fixed point and not mere reachability: a package that depends
on ``a | b`` breaks when both are gone, and a name is gone when the package of that name is broken
(or there is none) and so are all that provide it. The database finds the neighbours of one
wave at a time, by index; the client keeps the set of what is broken. The number of queries is
the length of the longest chain, a few dozen at most.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from neo4j import Session
from rich.console import Console
from rich.table import Table

SHOWN = 10
HOPS_MAX = 30

# Who requires one of these names, alone or as one of several alternatives.
DEPENDENTS = """
UNWIND $names AS name
MATCH (:Package {name: name})<-[d:DEPENDS|PRE_DEPENDS]-(p:Package)
RETURN DISTINCT p.name AS package, d.alternatives AS alternatives
"""
PROVIDED = """
UNWIND $names AS name
MATCH (:Package {name: name})-[:PROVIDES]->(v:Package)
RETURN DISTINCT v.name AS name
"""
PROVIDERS = """
UNWIND $names AS name
MATCH (n:Package {name: name})
OPTIONAL MATCH (n)<-[:PROVIDES]-(p:Package)
RETURN name, n:Virtual AS virtual, collect(p.name) AS providers
"""
NEVER_THERE = "MATCH (v:Virtual) WHERE NOT (v)<-[:PROVIDES]-() RETURN v.name AS name"
MOST_DEPENDED_ON = """
MATCH (p:Package)<-[d:DEPENDS|PRE_DEPENDS]-(:Package)
RETURN p.name AS name, count(d) AS dependents
ORDER BY dependents DESC, name
LIMIT $limit
"""
SHORTEST_PATH = f"""
MATCH (a:Package {{name: $from}}), (b:Package {{name: $to}}),
      path = shortestPath((a)-[:DEPENDS|PRE_DEPENDS*..{HOPS_MAX}]->(b))
RETURN [n IN nodes(path) | n.name] AS names
"""
TRANSITIVE_SIZE = """
UNWIND $names AS name
MATCH (p:Package {name: name})
RETURN sum(p.size) AS kilobytes
"""


def what_breaks(session: Session, name: str) -> list[set[str]]:
    """The packages that cannot be installed without ``name``, in waves: the first holds those
    that need it themselves, the next those that need one of these, and so on.
    """
    broken = {name}
    gone = {record["name"] for record in session.run(NEVER_THERE)}
    alternatives: dict[str, set[str]] = {}  # package -> its groups that lost a member
    waves: list[set[str]] = []
    wave = {name}
    while wave:
        newly_gone = _names_gone(session, wave, broken) - gone
        gone |= newly_gone
        wave = set()
        for record in session.run(DEPENDENTS, names=sorted(newly_gone)):
            package, groups = record["package"], record["alternatives"]
            if package in broken:
                continue
            if groups is None:
                wave.add(package)
            else:
                alternatives.setdefault(package, set()).update(groups)
        wave |= {
            package
            for package, groups in alternatives.items()
            if package not in broken and any(gone.issuperset(g.split(" | ")) for g in groups)
        }
        broken |= wave
        if wave:
            waves.append(wave)
    return waves


def _names_gone(session: Session, wave: Iterable[str], broken: set[str]) -> set[str]:
    """The names of this wave, and those it provides, that nothing whole stands for any more."""
    names = set(wave)
    names.update(record["name"] for record in session.run(PROVIDED, names=sorted(wave)))
    gone = set()
    for record in session.run(PROVIDERS, names=sorted(names)):
        own = record["virtual"] or record["name"] in broken
        if own and broken.issuperset(record["providers"]):
            gone.add(record["name"])
    return gone


def shortest_path(session: Session, source: str, target: str) -> list[str] | None:
    """The names along the shortest chain of dependencies, ``None`` if there is none."""
    record = session.run(SHORTEST_PATH, {"from": source, "to": target}).single()
    return None if record is None else list(record["names"])


def most_depended_on(session: Session, limit: int = SHOWN) -> list[tuple[str, int]]:
    """The packages that most others depend on, with the number of them."""
    return [(r["name"], r["dependents"]) for r in session.run(MOST_DEPENDED_ON, limit=limit)]


def _total_kilobytes(session: Session, names: Iterable[str]) -> int:
    record: Any = session.run(TRANSITIVE_SIZE, names=sorted(names)).single(strict=True)
    return int(record["kilobytes"])


def ask(session: Session, console: Console, without: str, source: str, target: str) -> None:
    """Ask all three and print the answers."""
    waves = what_breaks(session, without)
    packages: set[str] = set().union(*waves)
    if packages:
        gigabytes = _total_kilobytes(session, packages) / 2**20
        console.print(
            f"\nWithout [bold]{without}[/]: {len(packages):,} packages break "
            f"({gigabytes:,.1f} GiB installed), {len(waves[0]):,} of them directly, "
            f"the farthest {len(waves)} steps away"
        )
    else:
        console.print(f"\nWithout [bold]{without}[/]: nothing breaks")
    table = Table("most depended on", "by", box=None)
    table.columns[1].justify = "right"
    for name, dependents in most_depended_on(session):
        table.add_row(name, f"{dependents:,}")
    console.print(table)
    path = shortest_path(session, source, target)
    if path is None:
        console.print(f"{source} does not need {target} within {HOPS_MAX} steps")
    else:
        console.print(f"Why {source} needs {target}: " + " → ".join(path))
