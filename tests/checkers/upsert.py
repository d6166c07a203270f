"""Is there one node for a key, whoever merged it, with all that was set?

For ``MERGE (n:Label {key: $key}) SET n.property = $value`` under a uniqueness constraint. Actions:

    upsert      value: (key, property, new)   result: (node, created), None for what is not told
    read        value: key, or None for all   result: ((node, key, ((property, value), ...)), ...)
    local-read  likewise; it may be of the past

Nodes are any names that stay (an element id, or a random property given on creation). Nothing
deletes, so a key's node is the same for ever; nothing ever removes a property.

What is checked: no read shows two nodes for a key; all answers and reads agree on a key's node; at
most one upsert created it; a key whose upsert was answered is in every read asked for later, and so
are its properties, each with a value that is possible: set by an upsert that may have happened by
then, and not certainly overwritten. A node with none of the properties that were set when it was
created is half-written. Of a local read the same is asked, but that it shows what was answered
before. Without a read of all, and not a local one, that began after the last upsert was answered
there is no verdict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.checkers.history import (
    Operation,
    Outcome,
    Verdict,
    frozen,
    precedes,
    shown,
    valid_history,
    verdict,
)

__all__ = ["check_upsert"]


def check_upsert(history: Sequence[Operation]) -> Verdict:
    """Whether merges under a uniqueness constraint gave one whole node for each key."""
    valid_history(history, ("upsert", "read", "local-read"))
    keys: dict[Any, _Key] = defaultdict(_Key)
    for operation in history:
        if operation.action == "upsert":
            keys[operation.value[0]].upserts.append(operation)
    possible = [op for key in keys.values() for op in key.possible]
    answered = [op.completed for op in possible if op.outcome is Outcome.OK]
    has_final = not possible
    findings: list[str] = []
    for read in sorted(history, key=lambda operation: operation.completed):
        if read.action == "upsert" or read.outcome is not Outcome.OK:
            continue
        current = read.action == "read"
        last = read.value is None and all(completed < read.invoked for completed in answered)
        has_final = has_final or (current and last)
        findings += _wrong_with(read, keys, current)
    for name, key in keys.items():
        findings += key.wrong_with_nodes(name)
    missing = [] if has_final else ["no read of all began after the last upsert was answered"]
    return verdict(list(dict.fromkeys(findings)), len(history), missing)


@dataclass
class _Key:
    """What happened to one key. ``nodes``: the operations that showed each of its nodes."""

    upserts: list[Operation] = field(default_factory=list)
    nodes: dict[Any, Operation] = field(default_factory=dict)

    @property
    def possible(self) -> list[Operation]:
        return [op for op in self.upserts if op.outcome is not Outcome.FAILED]

    def wrong_with_nodes(self, name: Any) -> Iterator[str]:
        answered = [op for op in self.upserts if op.outcome is Outcome.OK]
        created = []
        for upsert in answered:
            node, is_new = upsert.result
            if node is not None:
                self.nodes.setdefault(node, upsert)
            if is_new:
                created.append(upsert)
        if len(self.nodes) > 1:
            shows = "\n".join(f"  {node!r}: {shown(op)}" for node, op in self.nodes.items())
            yield f"duplicate: key {name!r} has had {len(self.nodes)} nodes:\n{shows}"
        if len(created) > 1:
            shows = "\n".join(f"  {shown(upsert)}" for upsert in created)
            yield f"created twice: key {name!r}:\n{shows}"
        told = answered and all(upsert.result[1] is not None for upsert in answered)
        if told and not created and len(self.possible) == len(answered):
            yield f"created by nobody: key {name!r}, first {shown(answered[0])}"

    def values(self, name: Any, read: Operation, current: bool) -> set[Any]:
        """What the read may show of a property."""
        begun = [op for op in self._of(name) if op.invoked <= read.completed]
        overwritten = {
            id(old)
            for old in begun
            if current
            and any(precedes(old, new) and _answered(new, read) for new in begun if new is not old)
        }
        return {frozen(op.value[2]) for op in begun if id(op) not in overwritten}

    def must_have(self, read: Operation) -> set[Any]:
        return {op.value[1] for op in self.possible if _answered(op, read)}

    def _of(self, name: Any) -> list[Operation]:
        return [op for op in self.possible if op.value[1] == name]


def _answered(upsert: Operation, read: Operation) -> bool:
    return upsert.outcome is Outcome.OK and upsert.completed < read.invoked


def _wrong_with(read: Operation, keys: dict[Any, _Key], current: bool) -> Iterator[str]:
    """What is wrong with one read; ``current``: it may not be of the past."""
    present: dict[Any, list[Any]] = defaultdict(list)
    for node, name, properties in read.result:
        present[name].append(node)
        if read.value is not None and name != read.value:
            yield f"wrong key: {name!r} in {shown(read)}"
        elif name not in keys:
            yield f"phantom: nobody merged key {name!r}, seen in {_told(read)}"
        else:
            keys[name].nodes.setdefault(node, read)
            yield from _wrong_with_node(read, name, keys[name], dict(properties), current)
    for name, nodes in present.items():
        if len(nodes) > 1:
            yield f"duplicate: key {name!r} has nodes {nodes!r} in {_told(read)}"
    if current:
        wanted = keys if read.value is None else {read.value} & keys.keys()
        for name in wanted:
            if name not in present and keys[name].must_have(read):
                first = next(op for op in keys[name].possible if _answered(op, read))
                yield f"lost: key {name!r} is not in {_told(read)}, after {shown(first)}"


def _wrong_with_node(
    read: Operation, name: Any, key: _Key, properties: dict[Any, Any], current: bool
) -> Iterator[str]:
    if not properties:
        yield f"half-written: key {name!r} without a property in {_told(read)}"
    for prop, value in properties.items():
        if frozen(value) not in key.values(prop, read, current):
            others = "; ".join(shown(op) for op in key.upserts if op.value[1] == prop) or "none"
            yield (
                f"wrong value: key {name!r} has {prop!r} = {value!r} in {_told(read)};"
                f" upserts of it: {others}"
            )
    lost = sorted(key.must_have(read) - properties.keys(), key=repr) if current else []
    if lost:
        yield f"lost property: key {name!r} without {lost!r} in {_told(read)}"


def _told(read: Operation) -> str:
    return f"the read of client {read.client} [{read.invoked}..{read.completed}]"
