"""Reading .feature files: scenarios with their steps, outlines filled in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gherkin.parser import Parser
from gherkin.pickles.compiler import Compiler

__all__ = ["Scenario", "Step", "read_corrections", "read_feature"]


@dataclass(frozen=True)
class Step:
    """One step: its text without Given, When, Then, and its argument."""

    text: str
    document: str | None = None
    table: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Scenario:
    feature: str  # path below the folder of features
    name: str
    steps: tuple[Step, ...]

    def corrected(self, old: str, new: str) -> Scenario:
        """The scenario with a piece of text replaced in all steps."""

        def change(step: Step) -> Step:
            document = None if step.document is None else step.document.replace(old, new)
            return replace(step, text=step.text.replace(old, new), document=document)

        return replace(self, steps=tuple(change(step) for step in self.steps))


def read_feature(path: Path, root: Path) -> list[Scenario]:
    """All scenarios of a file; each row of an outline's examples is one."""
    document: dict[str, Any] = Parser().parse(path.read_text(encoding="utf-8"))
    document["uri"] = str(path)
    pickles = Compiler().compile(document)
    name = str(path.relative_to(root))
    return [
        Scenario(name, pickle["name"], tuple(_step(step) for step in pickle["steps"]))
        for pickle in pickles
    ]


def _step(step: dict[str, Any]) -> Step:
    argument = step.get("argument") or {}
    document = argument.get("docString", {}).get("content")
    rows = argument.get("dataTable", {}).get("rows", ())
    table = tuple(tuple(cell["value"] for cell in row["cells"]) for row in rows)
    return Step(step["text"], document, table)


def read_corrections(path: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """(feature, scenario name) -> (old text, new text), of which a runner accepts either."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    if not path.exists():
        return found
    key: tuple[str, str] | None = None
    old = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if " | " in line and not line.startswith((" ", "#")):
            feature, name = line.split(" | ", 1)
            key = (feature.strip(), name.strip())
        elif line.strip().startswith("tag "):
            old = _without_keyword(line.strip().split(maxsplit=2)[2])
        elif line.strip().startswith("correction ") and key is not None:
            found[key] = (old, _without_keyword(line.strip().split(maxsplit=1)[1].strip()))
    return found


def _without_keyword(text: str) -> str:
    return text.removeprefix("Then ").strip()
