r"""Regular expressions whose time a client cannot run away with.

Python's ``re`` backtracks: ``(a+)+b`` takes exponential time on a string of a's, and holds the
interpreter lock all the while. So a pattern is parsed here first. If its structure bounds the
steps of a backtracking matcher (few unbounded repeats, none inside another, on this length of
text), it is handed to ``re``; otherwise it is run as a nondeterministic automaton, all states at
once, with the sets of states cached as they come up (Thompson 1968; Cox, "Regular Expression
Matching Can Be Simple And Fast", 2007): one step per character whatever the pattern, and the
deadline checked on the way.

The language is that of ``java.util.regex`` as far as automata go: literals, ``.``, classes,
``\d \w \s``, anchors, ``\b``, groups, ``|``, ``* + ? {m,n}`` (greedy or lazy: the same language),
flags ``(?ims)``. Backreferences, lookaround and possessive quantifiers are refused. ``\d``, ``\w``
and case are ASCII, as in Java. What one character matches (a class, say) is still asked of ``re``,
on that character alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from graph.errors import CypherArgumentError

__all__ = ["Pattern", "compile_pattern"]

PATTERN_CHARS_MAX = 10_000
GROUP_LEVELS_MAX = 60
REPEAT_MAX = 1_000
STATES_MAX = 20_000
# Steps that a backtracking matcher may take at worst before the automaton is used instead.
BACKTRACKING_STEPS_MAX = 2_000_000.0
# Estimates of steps end here: 10 to this power is more than enough, and still a float.
COST_DIGITS_MAX = 100.0
# Sets of states kept; when there are more the cache starts anew.
CACHE_ENTRIES_MAX = 10_000
CHECK_CHARS = 4_096


# ----------------------------------------------------------------------------- syntax tree


@dataclass(frozen=True, slots=True)
class One:
    """One character: ``source`` is a pattern of ``re`` that matches exactly those allowed."""

    source: str
    flags: int


@dataclass(frozen=True, slots=True)
class Assertion:
    r"""``^ $ \b \B \A \z``."""

    kind: str


@dataclass(frozen=True, slots=True)
class Row:
    """One after another."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """``low`` to ``high`` times; ``None``: without end."""

    item: Node
    low: int
    high: int | None


Node = One | Assertion | Row | Choice | Repeat


def _invalid(pattern: str, what: str) -> CypherArgumentError:
    shown = pattern if len(pattern) <= 200 else pattern[:200] + "..."
    return CypherArgumentError(f"Invalid regular expression `{shown}`: {what}.")


class _Parser:
    """Recursive descent: choice, sequence, repeat, atom."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.level = 0

    def error(self, what: str) -> CypherArgumentError:
        return _invalid(self.pattern, f"{what} at offset {self.at}")

    def peek(self) -> str:
        return self.pattern[self.at] if self.at < len(self.pattern) else ""

    def parse(self) -> Node:
        node = self.choice(re.ASCII)
        if self.at < len(self.pattern):
            raise self.error("unmatched )")
        return node

    def choice(self, flags: int) -> Node:
        items: list[Node] = []
        item, flags = self.sequence(flags)
        items.append(item)
        while self.peek() == "|":
            self.at += 1
            item, flags = self.sequence(flags)
            items.append(item)
        return items[0] if len(items) == 1 else Choice(tuple(items))

    def sequence(self, flags: int) -> tuple[Node, int]:
        items: list[Node] = []
        while self.peek() not in ("", "|", ")"):
            if self.pattern.startswith("\\Q", self.at):
                quoted = self.quoted(flags)
                items.extend(quoted[:-1])
                items.extend(self.repeat(flags, last) for last in quoted[-1:])
                continue
            found = re.compile(r"\(\?([a-z]*)(?:-([a-z]+))?\)").match(self.pattern, self.at)
            if found is not None:  # flags for the rest of the group
                self.at = found.end()
                flags = self.flags(flags, found[1], found[2] or "")
                continue
            items.append(self.repeat(flags))
        return Row(tuple(items)), flags

    def flags(self, flags: int, on: str, off: str) -> int:
        known = {"i": re.IGNORECASE, "s": re.DOTALL, "m": re.MULTILINE, "u": 0}
        for letters, setting in ((on, True), (off, False)):
            for letter in letters:
                if letter not in known:
                    raise self.error(f"unknown flag {letter}")
                flag = int(known[letter])
                flags = flags | flag if setting else flags & ~flag
        return flags

    def quoted(self, flags: int) -> list[Node]:
        end = self.pattern.find("\\E", self.at + 2)
        text = self.pattern[self.at + 2 : end if end >= 0 else len(self.pattern)]
        self.at = end + 2 if end >= 0 else len(self.pattern)
        return [One(re.escape(character), flags) for character in text]

    def repeat(self, flags: int, atom: Node | None = None) -> Node:
        node = self.atom(flags) if atom is None else atom
        while (bounds := self.bounds()) is not None:
            low, high = bounds
            if isinstance(node, Assertion):
                raise self.error("an anchor cannot be repeated")
            if high is not None and high < low:
                raise self.error("a repeat whose end is below its start")
            if max(low, high or 0) > REPEAT_MAX:
                raise self.error(f"a repeat of more than {REPEAT_MAX}")
            if self.peek() == "+":
                raise self.error("possessive quantifiers are not supported")
            if self.peek() == "?":  # lazy: the same strings match
                self.at += 1
            node = Repeat(node, low, high)
        return node

    def bounds(self) -> tuple[int, int | None] | None:
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        mark = self.peek()
        if mark in simple:
            self.at += 1
            return simple[mark]
        found = re.compile(r"\{(\d{1,9})(?:(,)(\d{1,9})?)?\}").match(self.pattern, self.at)
        if found is None:
            return None
        self.at = found.end()
        low = int(found[1])
        return low, (int(found[3]) if found[3] else None) if found[2] else low

    def atom(self, flags: int) -> Node:
        mark = self.peek()
        if mark == "(":
            return self.group(flags)
        if mark == "[":
            return self.character_class(flags)
        if mark == "\\":
            return self.escape(flags)
        if mark in ("*", "+", "?"):
            raise self.error("nothing to repeat")
        self.at += 1
        if mark in ("^", "$"):
            return Assertion(mark + ("m" if flags & re.MULTILINE else ""))
        return One("." if mark == "." else re.escape(mark), flags)

    def group(self, flags: int) -> Node:
        self.level += 1
        if self.level > GROUP_LEVELS_MAX:
            raise self.error(f"groups nested more than {GROUP_LEVELS_MAX} deep")
        self.at += 1
        if self.peek() == "?":
            found = re.compile(r"\?(?:([a-z]*)(?:-([a-z]+))?:|P?<[A-Za-z]\w*>)").match(
                self.pattern, self.at
            )
            if found is None:
                raise self.error("lookaround and backreferences are not supported")
            self.at = found.end()
            flags = self.flags(flags, found[1] or "", found[2] or "")
        node = self.choice(flags)
        if self.peek() != ")":
            raise self.error("missing )")
        self.at += 1
        self.level -= 1
        return node

    def character_class(self, flags: int) -> Node:
        start = self.at
        at = start + 1
        if self.pattern.startswith("^", at):
            at += 1
        if self.pattern.startswith("]", at):
            at += 1
        while at < len(self.pattern) and self.pattern[at] != "]":
            if self.pattern[at] == "[" or self.pattern.startswith("&&", at):
                raise self.error("nested classes and intersections are not supported")
            at += 2 if self.pattern[at] == "\\" else 1
        if at >= len(self.pattern):
            raise self.error("missing ]")
        self.at = at + 1
        return self.checked(self.pattern[start : self.at], flags)

    def escape(self, flags: int) -> Node:
        found = re.compile(
            r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|0[0-7]{1,3}|[dDwWsStnrfav]|[^A-Za-z0-9]|[bBAzZ])",
            re.DOTALL,
        ).match(self.pattern, self.at)
        if found is None:
            raise self.error("unknown escape, or a backreference, which is not supported")
        self.at = found.end()
        text = found[0]
        if text[1] in "bB":
            return Assertion(text[1])
        if text[1] in "AzZ":
            return Assertion("^" if text[1] == "A" else "$")
        return self.checked(text, flags)

    def checked(self, source: str, flags: int) -> One:
        try:
            re.compile(source, flags)
        except (re.error, OverflowError) as error:
            raise _invalid(self.pattern, str(error)) from None
        return One(source, flags)


# ----------------------------------------------------------------------------- cost, and re


def _cost(node: Node, length: float) -> float:
    """A bound on the ways a backtracking matcher may try ``node`` at one place of a text."""
    if isinstance(node, Row):
        total = 1.0
        for item in node.items:
            total = min(total * _cost(item, length), 10.0**COST_DIGITS_MAX)
        return total
    if isinstance(node, Choice):
        return sum(_cost(item, length) for item in node.items)
    if isinstance(node, Repeat):
        inner = _cost(node.item, length)
        count = length if node.high is None else min(node.high, length)
        if inner <= 1.0 and isinstance(node.item, One):
            return 1.0 + count - min(node.low, count)
        # Several ways in each round multiply over the rounds.
        digits = math.log10(max(inner, 2.0)) * count
        return math.pow(10.0, min(digits, COST_DIGITS_MAX))
    return 1.0


def _source(node: Node) -> str:
    """The node as a pattern of ``re``, without captures."""
    if isinstance(node, One):
        letters = "".join(
            letter for letter, flag in (("i", re.IGNORECASE), ("s", re.DOTALL)) if node.flags & flag
        )
        return f"(?{letters}:{node.source})" if letters else node.source
    if isinstance(node, Assertion):
        anchors = {"^": r"\A", "$": r"\Z", "^m": "(?m:^)", "$m": "(?m:$)"}
        return anchors.get(node.kind, "\\" + node.kind)
    if isinstance(node, Row):
        return "".join(_source(item) for item in node.items)
    if isinstance(node, Choice):
        return "(?:" + "|".join(_source(item) for item in node.items) + ")"
    high = "" if node.high is None else str(node.high)
    return f"(?:{_source(node.item)}){{{node.low},{high}}}"


# ----------------------------------------------------------------------------- automaton


@dataclass(slots=True)
class _Automaton:
    """States with moves by character or, without one, by assertion (``None``: always)."""

    characters: list[tuple[One, int] | None] = field(default_factory=list)
    free: list[list[tuple[str | None, int]]] = field(default_factory=list)

    def state(self) -> int:
        if len(self.free) >= STATES_MAX:
            raise CypherArgumentError(
                f"The regular expression needs more than {STATES_MAX} states: use smaller repeats."
            )
        self.characters.append(None)
        self.free.append([])
        return len(self.free) - 1

    def build(self, node: Node, start: int) -> int:
        """Add ``node`` after ``start``; the state in which it ends."""
        if isinstance(node, One):
            end = self.state()
            middle = self.state()
            self.free[start].append((None, middle))
            self.characters[middle] = (node, end)
            return end
        if isinstance(node, Assertion):
            end = self.state()
            self.free[start].append((node.kind, end))
            return end
        if isinstance(node, Row):
            for item in node.items:
                start = self.build(item, start)
            return start
        if isinstance(node, Choice):
            end = self.state()
            for item in node.items:
                branch = self.state()
                self.free[start].append((None, branch))
                self.free[self.build(item, branch)].append((None, end))
            return end
        return self.build_repeat(node, start)

    def build_repeat(self, node: Repeat, start: int) -> int:
        for _ in range(node.low):
            start = self.build(node.item, start)
        end = self.state()
        if node.high is None:
            loop = self.state()
            self.free[start].append((None, loop))
            self.free[self.build(node.item, loop)].append((None, loop))
            self.free[loop].append((None, end))
            return end
        for _ in range(node.high - node.low):
            self.free[start].append((None, end))
            start = self.build(node.item, start)
        self.free[start].append((None, end))
        return end


_WORD = re.compile(r"\w", re.ASCII)


def _holds(kind: str, before: str, after: str) -> bool:
    """Whether an assertion holds between two characters (empty: end of the text)."""
    if kind == "^":
        return before == ""
    if kind == "$":
        return after == ""
    if kind == "^m":
        return before in ("", "\n")
    if kind == "$m":
        return after in ("", "\n")
    boundary = bool(_WORD.match(before)) != bool(_WORD.match(after))
    return boundary if kind == "b" else not boundary


class Pattern:
    """A compiled pattern. Its caches are filled by any thread; entries are values, so a race at
    worst computes one twice."""

    def __init__(self, pattern: str) -> None:
        if len(pattern) > PATTERN_CHARS_MAX:
            raise _invalid(pattern, f"longer than {PATTERN_CHARS_MAX} characters")
        self.tree = _Parser(pattern).parse()
        self.automaton = _Automaton()
        self.start = self.automaton.state()
        self.end = self.automaton.build(self.tree, self.start)
        self.anchored = any(kind for moves in self.automaton.free for kind, _ in moves)
        self.closures: dict[tuple[frozenset[int], str, str], frozenset[int]] = {}
        self.steps: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self.tests: dict[One, re.Pattern[str]] = {}
        try:
            self.backtracking: re.Pattern[str] | None = re.compile(_source(self.tree), re.ASCII)
        except (re.error, OverflowError, RecursionError):
            self.backtracking = None
        # The length of text up to which backtracking is bounded, to a power of two.
        self.backtracking_chars_max = 1
        while self.backtracking_chars_max < 1 << 26:
            length = float(2 * self.backtracking_chars_max + 1)
            if length * _cost(self.tree, length) > BACKTRACKING_STEPS_MAX:
                break
            self.backtracking_chars_max *= 2

    def matches(self, text: str, deadline_check: Callable[[], None]) -> bool:
        """Whether the whole of ``text`` matches."""
        if len(text) <= self.backtracking_chars_max and self.backtracking is not None:
            return self.backtracking.fullmatch(text) is not None
        return self.run(text, deadline_check)

    def run(self, text: str, deadline_check: Callable[[], None]) -> bool:
        """The automaton over the whole of ``text``."""
        states = frozenset((self.start,))
        before = ""
        for position, character in enumerate(text):
            if position % CHECK_CHARS == 0:
                deadline_check()
            closed = self._closure(states, before, character)
            key = (closed, character)
            after = self.steps.get(key)
            if after is None:
                after = self._step(closed, character)
                self._remember(self.steps, key, after)
            if not after:
                return False
            states, before = after, character
        return self.end in self._closure(states, before, "")

    def _closure(self, states: frozenset[int], before: str, after: str) -> frozenset[int]:
        """All states reachable without a character, between two characters."""
        key = (states, before, after) if self.anchored else (states, "", "")
        found = self.closures.get(key)
        if found is not None:
            return found
        seen = set(states)
        stack = list(states)
        while stack:
            for kind, target in self.automaton.free[stack.pop()]:
                if target not in seen and (kind is None or _holds(kind, before, after)):
                    seen.add(target)
                    stack.append(target)
        found = frozenset(seen)
        self._remember(self.closures, key, found)
        return found

    def _step(self, states: frozenset[int], character: str) -> frozenset[int]:
        after = set()
        for state in states:
            move = self.automaton.characters[state]
            if move is not None and self._allows(move[0], character):
                after.add(move[1])
        return frozenset(after)

    def _allows(self, one: One, character: str) -> bool:
        test = self.tests.get(one)
        if test is None:
            test = self.tests[one] = re.compile(one.source, one.flags)
        return test.fullmatch(character) is not None

    def _remember(self, cache: dict[Any, frozenset[int]], key: Any, value: frozenset[int]) -> None:
        if len(cache) >= CACHE_ENTRIES_MAX:
            cache.clear()
        cache[key] = value


@lru_cache(maxsize=128)
def compile_pattern(pattern: str) -> Pattern:
    """The compiled pattern, cached.

    Raises:
        CypherArgumentError: the pattern is malformed, too large, or uses what is not supported.
    """
    return Pattern(pattern)
