"""Text to tokens, and offsets back to lines and columns.

One compiled expression reads the whole language; its named groups say what was found. Tokens
are four parallel lists (kind, value, start, end), which Python fills and reads faster than a
list of objects. The *kind* of a word is the word itself in upper case if it is a keyword, else
``NAME``; the kind of a symbol is the symbol; the others are ``INTEGER FLOAT STRING PARAMETER
BADNUMBER EOF``. Arrows are not tokens: ``<-`` means one thing in a pattern and another in
``a<-1``, so ``<``, ``-`` and ``>`` stand alone and the parser puts them together.

A malformed number is a token and not an error, since ``{1a: 2}`` is a misplaced number first and
a malformed one second; the parser complains where a number would have been allowed.

Every quantifier of the expression that can run over more than one token is possessive, and it
matches at every offset, so reading is linear in the length of the text whatever the text is.
"""

from __future__ import annotations

import re
from typing import Final

from graph.errors import CypherSyntaxError

__all__ = [
    "ANY_NAMES",
    "INTEGER_MAX",
    "NAMES",
    "RESERVED",
    "TEXT_CHARS_MAX",
    "TOKEN_PATTERN",
    "Tokens",
    "locate",
    "number_kind",
    "number_value",
    "syntax_error",
    "tokenize",
    "unescape_string",
]

# Longest query text, in characters. A client sends data as parameters, not as text; one MiB is
# room for a generated batch and keeps the time to parse within a second or two.
TEXT_CHARS_MAX: Final = 1 << 20

INTEGER_MAX: Final = (1 << 63) - 1

# How much of a long line an error message shows on either side of the place.
_EXCERPT_CHARS: Final = 60


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that cannot name a variable unless they stand in backquotes: those that begin or join
# clauses and expressions. As labels, types, property keys and aliases all words are allowed.
RESERVED: Final = _words(
    """
    ALL AND AS ASC ASCENDING BY CASE CONTAINS CREATE DELETE DESC DESCENDING DETACH DISTINCT ELSE
    END ENDS EXISTS FALSE IN IS LIMIT MATCH MERGE NOT NULL ON OPTIONAL OR ORDER REMOVE RETURN SET
    SKIP STARTS THEN TRUE UNION UNWIND WHEN WHERE WITH XOR
    """
)

_CONTEXTUAL: Final = _words(
    """
    ALLSHORTESTPATHS ANY ASSERT CALL CONSTRAINT CONSTRAINTS COUNT DATABASES DROP EXPLAIN EXTRACT
    FILTER FOR IF INDEX INDEXES INFO NODE NONE PROFILE RAFT RANGE REDUCE REQUIRE SHORTESTPATH SHOW
    SINGLE STORAGE UNIQUE YIELD
    """
)

# The kinds of token that can name a variable, and those that can name everything else.
NAMES: Final = _CONTEXTUAL | {"NAME"}
ANY_NAMES: Final = NAMES | RESERVED

_KEYWORDS: Final = {word: word for word in RESERVED | _CONTEXTUAL}
_KEYWORDS.update({word.lower(): word for word in RESERVED | _CONTEXTUAL})

TOKEN_PATTERN: Final = re.compile(
    r"""[\s\ufeff]*+(?:
        (?P<word>[^\W\d]\w*+)
      | (?P<number>(?:\d++(?:\.\d++)?+|\.\d++)(?:[eE][+-]?\d++)?+\w*+)
      | (?P<comment>//[^\n\r]*+|/\*(?:[^*]++|\*(?!/))*+\*/)
      | (?P<symbol>[<>!]=|<>|=~|\+=|\.\.|/(?!\*)|[-+*%^=<>()\[\]{},.:;|&])
      | (?P<string>'(?:[^'\\]++|\\.)*+'|"(?:[^"\\]++|\\.)*+")
      | (?P<parameter>\$(?:\w++|[ ]\d++|`(?:[^`]++|``)*+`))
      | (?P<quoted>`(?:[^`]++|``)*+`)
      | (?P<end>\Z)
      | (?P<bad>.)
    )""",
    re.VERBOSE | re.DOTALL,
)

_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_ESCAPED: Final = {
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "\\": "\\",
    "'": "'",
    '"': '"',
    "`": "`",
    "/": "/",
}


class Tokens:
    """The tokens of one text in four parallel lists; the last two are ``EOF``."""

    __slots__ = ("ends", "kinds", "starts", "text", "values")

    def __init__(self, text: str) -> None:
        self.text = text
        self.kinds: list[str] = []
        self.values: list[str] = []
        self.starts: list[int] = []
        self.ends: list[int] = []


def tokenize(text: str) -> Tokens:
    """Split ``text`` into tokens; the value of a string or parameter is still as written.

    :raises CypherSyntaxError: the text is too long, or has a character, string, comment or
        quoted name that cannot be read.
    """
    if len(text) > TEXT_CHARS_MAX:
        raise CypherSyntaxError(
            f"The query text has {len(text)} characters; the limit is {TEXT_CHARS_MAX}. "
            "Pass data as parameters",
            detail="QueryTooLong",
        )
    tokens = Tokens(text)
    add_kind = tokens.kinds.append
    add_value = tokens.values.append
    add_start = tokens.starts.append
    add_end = tokens.ends.append
    keywords = _KEYWORDS
    for match in TOKEN_PATTERN.finditer(text):
        group = match.lastgroup
        assert group is not None
        value = match[group]
        end = match.end()
        start = end - len(value)
        if group == "word":
            kind = keywords.get(value) or keywords.get(value.upper(), "NAME")
        elif group == "symbol":
            kind = value
        elif group == "comment":
            continue
        elif group == "quoted":
            kind, value = "NAME", value[1:-1].replace("``", "`")
        elif group == "parameter":
            kind, value = "PARAMETER", _parameter_name(text, start, value)
        elif group == "string":
            kind = "STRING"
        elif group == "number":
            kind = number_kind(value)
        elif group == "end":
            break
        else:
            raise _unreadable(text, start)
        add_kind(kind)
        add_value(value)
        add_start(start)
        add_end(end)
    # Two of them, so that the parser may look two tokens ahead of any token but the end.
    for _ in range(2):
        add_kind("EOF")
        add_value("")
        add_start(len(text))
        add_end(len(text))
    return tokens


def number_kind(value: str) -> str:
    """``INTEGER``, ``FLOAT`` or, for what only begins like a number, ``BADNUMBER``."""
    if value.isdecimal() and value.isascii():
        return "INTEGER"
    if not value.isascii() or "_" in value:
        return "BADNUMBER"
    prefix = value[:2].lower()
    try:
        if prefix == "0x" or prefix == "0o":
            int(value[2:], 16 if prefix == "0x" else 8)
            return "INTEGER"
        float(value)
    except ValueError:
        return "BADNUMBER"
    return "FLOAT"


def number_value(value: str) -> int | float:
    """The value of an ``INTEGER`` or ``FLOAT`` token; integers are not bounded, floats may be inf.

    >>> number_value("0xFF"), number_value("1e2")
    (255, 100.0)
    """
    if value.isdecimal():
        # Python refuses to convert thousands of digits; any such number is out of range anyway.
        digits = value.lstrip("0")
        return int(digits or "0") if len(digits) < 40 else INTEGER_MAX + 2
    prefix = value[:2].lower()
    if prefix == "0x" or prefix == "0o":
        return int(value[2:], 16 if prefix == "0x" else 8)
    return float(value)


def unescape_string(raw: str) -> str:
    """The value of a string literal as written, quotes included.

    :raises ValueError: an escape is unknown or is no Unicode character; ``args`` are a message
        and the offset within ``raw``.
    """
    body = raw[1:-1]
    if "\\" not in body:
        return body
    value = _ESCAPE.sub(_unescape, body)
    if any("\ud800" <= character <= "\udfff" for character in value):
        # A pair of \u escapes makes one character outside the basic plane.
        try:
            value = value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise ValueError("A surrogate stands alone: write both halves", 0) from None
    return value


def _unescape(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    if code is not None:
        number = int(code, 16)
        if number <= 0x10FFFF:
            return chr(number)
        raise ValueError("there is no such Unicode character", match.start() + 1)
    character = match[3]
    plain = _ESCAPED.get(character)
    if plain is not None:
        return plain
    if character in "uU":
        digits = 4 if character == "u" else 8
        raise ValueError(f"\\{character} needs {digits} hexadecimal digits", match.start() + 1)
    raise ValueError(
        f"\\{character} is not an escape; write \\\\ for a backslash", match.start() + 1
    )


def _parameter_name(text: str, start: int, value: str) -> str:
    if value[1] != "`":
        return value[1:]
    name = value[2:-1].replace("``", "`")
    if name.startswith(" "):
        # "$ 0" is how the normaliser writes a lifted literal; a client must not forge one.
        raise syntax_error(text, start, "A parameter name cannot begin with a space")
    return name


def _unreadable(text: str, start: int) -> CypherSyntaxError:
    character = text[start]
    if character in "'\"":
        return syntax_error(
            text, start, "The string that begins here is not closed", detail="UnexpectedSyntax"
        )
    if character == "`":
        return syntax_error(text, start, "The name in backquotes that begins here is not closed")
    if text.startswith("/*", start):
        return syntax_error(text, start, "The comment that begins here is not closed")
    if character.isascii():
        return syntax_error(text, start, f"Invalid input {character!r}")
    return syntax_error(
        text,
        start,
        f"Invalid input '{character}' (U+{ord(character):04X}): "
        "it is not part of the language outside strings and backquotes",
        detail="InvalidUnicodeCharacter",
    )


def syntax_error(
    text: str, offset: int, message: str, *, detail: str = "UnexpectedSyntax"
) -> CypherSyntaxError:
    """A syntax error that shows the place at ``offset``."""
    return CypherSyntaxError(f"{message} {locate(text, offset)}", detail=detail)


def locate(text: str, offset: int) -> str:
    """``(line L, column C (offset: O))``, the line of text in quotes, and a caret under the place.

    Lines and columns count from one, offsets from zero, all in characters. A long line is cut to
    what surrounds the place.
    """
    offset = max(0, min(offset, len(text)))
    before = text[:offset].replace("\r\n", "\n").replace("\r", "\n")
    line = before.count("\n") + 1
    begin = max(text.rfind("\n", 0, offset), text.rfind("\r", 0, offset)) + 1
    stops = [stop for stop in (text.find("\n", offset), text.find("\r", offset)) if stop >= 0]
    stop = min(stops, default=len(text))
    left, right = "", ""
    shown = begin
    if offset - begin > _EXCERPT_CHARS:
        shown, left = offset - _EXCERPT_CHARS, "..."
    if stop - offset > _EXCERPT_CHARS:
        stop, right = offset + _EXCERPT_CHARS, "..."
    excerpt = f'"{left}{text[shown:stop]}{right}"'.replace("\t", " ")
    caret = " " * (1 + len(left) + offset - shown) + "^"
    return f"(line {line}, column {offset - begin + 1} (offset: {offset}))\n{excerpt}\n{caret}"
