"""The cursor over the tokens that all parts of the parser share.

The parser is one object in four layers, each a file: the cursor (here), patterns, expressions,
clauses and statements. It never goes back: where a few tokens do not decide between two readings
(``(a)-[...`` as a pattern or a subtraction, ``[x IN ...`` as a comprehension or a list), it asks
``Brackets``, a table of matching brackets made once per text, so parsing stays linear.

Two limits keep trees shallow, so that neither the parser nor anything that walks the tree later
can run out of stack: nesting is counted while parsing (``DEPTH_MAX``), and the height of a finished
tree is measured where long chains such as ``1+1+1+...`` could have made it higher than its nesting.
"""

from __future__ import annotations

from typing import Final, NoReturn

from graph.cypher.lexer import ANY_NAMES, NAMES, Tokens, syntax_error

__all__ = ["DEPTH_MAX", "Brackets", "Cursor"]

# Levels of nesting of an expression and height of its tree. A level costs the parser three stack
# frames; Python allows a thousand, of which the caller has used some.
DEPTH_MAX: Final = 200

_CLOSER: Final = {"(": ")", "[": "]", "{": "}"}


class Brackets:
    """For each opening bracket: where it closes, and whether ``,`` or ``|`` are directly in it."""

    __slots__ = ("close", "has_bar", "has_comma")

    def __init__(self, kinds: list[str]) -> None:
        self.close: dict[int, int] = {}
        self.has_comma: set[int] = set()
        self.has_bar: set[int] = set()
        opened: list[int] = []
        for index, kind in enumerate(kinds):
            if kind in _CLOSER:
                opened.append(index)
            elif kind == ")" or kind == "]" or kind == "}":
                if opened and _CLOSER[kinds[opened[-1]]] == kind:
                    self.close[opened.pop()] = index
                else:
                    opened.clear()
            elif kind == "," and opened:
                self.has_comma.add(opened[-1])
            elif kind == "|" and opened:
                self.has_bar.add(opened[-1])


class Cursor:
    """A place in the tokens, with the small questions and steps that parsing is made of."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.kinds = tokens.kinds
        self.values = tokens.values
        self.starts = tokens.starts
        self.at = 0
        self.depth = 0
        self._brackets: Brackets | None = None

    @property
    def brackets(self) -> Brackets:
        if self._brackets is None:
            self._brackets = Brackets(self.kinds)
        return self._brackets

    # ------------------------------------------------------------------ steps

    def accept(self, kind: str) -> bool:
        """Step over a token of this kind if it is next."""
        if self.kinds[self.at] == kind:
            self.at += 1
            return True
        return False

    def expect(self, kind: str) -> None:
        """Step over a token of this kind, which must be next."""
        if self.kinds[self.at] != kind:
            self.fail(_shown(kind))
        self.at += 1

    def accept_word(self, word: str) -> bool:
        """Step over a word, given in upper case, that is not a keyword of the lexer."""
        at = self.at
        if self.kinds[at] == "NAME" and self.values[at].upper() == word:
            if self.tokens.text[self.starts[at]] == "`":
                return False
            self.at = at + 1
            return True
        return False

    def is_name(self) -> bool:
        """Whether the next token can name a variable."""
        return self.kinds[self.at] in NAMES

    def name(self, what: str) -> str:
        """Step over a variable name; reserved words need backquotes."""
        at = self.at
        if self.kinds[at] not in NAMES:
            self.fail(what)
        self.at = at + 1
        return self.values[at]

    def any_name(self, what: str) -> str:
        """Step over a name where every word is allowed: label, type, property key, alias."""
        at = self.at
        if self.kinds[at] not in ANY_NAMES:
            self.fail(what)
        self.at = at + 1
        return self.values[at]

    def number_at(self) -> int | None:
        """Step over an unsigned integer if one is next, else ``None``."""
        if self.kinds[self.at] != "INTEGER":
            return None
        value = self.values[self.at]
        if not value.isdecimal() or len(value) > 9:
            self.error("The number of hops must be a decimal integer below 1000000000")
        self.at += 1
        return int(value)

    # ------------------------------------------------------------------ nesting

    def deeper(self, levels: int = 1) -> None:
        """Count ``levels`` of nesting; the caller takes them off again when it is done."""
        self.depth += levels
        if self.depth > DEPTH_MAX:
            self.too_deep(self.starts[self.at])

    def too_deep(self, offset: int) -> NoReturn:
        raise syntax_error(
            self.tokens.text,
            offset,
            f"The expression is nested too deeply here: the limit is {DEPTH_MAX} levels. "
            "Split it with WITH, or pass a list as a parameter",
            detail="NestedTooDeeply",
        )

    # ------------------------------------------------------------------ errors

    def fail(self, *expected: str) -> NoReturn:
        """The next token is not one of those that could stand here."""
        raise syntax_error(
            self.tokens.text, self.starts[self.at], f"{self._found()}: expected {_either(expected)}"
        )

    def error(
        self, message: str, *, at: int | None = None, detail: str = "UnexpectedSyntax"
    ) -> NoReturn:
        """Something is wrong at token ``at`` (the next one if not given)."""
        raise syntax_error(
            self.tokens.text, self.starts[self.at if at is None else at], message, detail=detail
        )

    def error_within(self, message: str, offset: int, detail: str) -> NoReturn:
        """Something is wrong ``offset`` characters into the next token."""
        raise syntax_error(self.tokens.text, self.starts[self.at] + offset, message, detail=detail)

    def _found(self) -> str:
        if self.kinds[self.at] == "EOF":
            return "Unexpected end of input"
        written = self.tokens.text[self.starts[self.at] : self.tokens.ends[self.at]]
        if len(written) > 40:
            written = written[:40] + "..."
        return f"Invalid input '{written}'"


def _shown(kind: str) -> str:
    return kind if kind.isalpha() else f"'{kind}'"


def _either(expected: tuple[str, ...]) -> str:
    if len(expected) == 1:
        return expected[0]
    return f"{', '.join(expected[:-1])} or {expected[-1]}"
