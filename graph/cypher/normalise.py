"""Lift literals out of a query text, so that texts that differ only in them share a plan.

::

    MATCH (n:User {id: 5}) WHERE n.name = 'x' RETURN n.age + 1 LIMIT 10
    MATCH (n:User {id: $ 0}) WHERE n.name = $ 1 RETURN n.age + 1 LIMIT $ 2      5, 'x', 10
    //isi

It works on tokens, before any parsing, since it runs for every query and the parser only for new
ones. A literal becomes the parameter ``$ 0``, ``$ 1`` ...: a name with a space, which no client can
write in backquotes. The comment at the end tells the types, so that texts which share a key also
share what analysis finds. What is not lifted, and why:

* anything in WITH, RETURN and ORDER BY: the text of an item names its column, and an expression
  in ORDER BY, or in WHERE after DISTINCT or an aggregation, means a column if it equals the
  expression of that column;
* bounds of variable-length relationships: the grammar wants numbers there;
* SKIP and LIMIT but for a plain integer, DELETE, REMOVE and CALL: analysis refuses some literals
  there before the query runs;
* true, false and null: there are few of them and plans differ by them.

A text that would not parse is returned as it is, or in a form that does not parse either; whoever
shows the error to a client parses the original for it.
"""

from __future__ import annotations

from typing import Any, Final

from graph.cypher.lexer import (
    INTEGER_MAX,
    TEXT_CHARS_MAX,
    TOKEN_PATTERN,
    number_kind,
    number_value,
    unescape_string,
)
from graph.cypher.trees import AGGREGATES

__all__ = ["normalise"]

# Whether literals are lifted after a word that begins a part of a query.
_LIFTS_AFTER: Final = {
    "CALL": False,
    "CREATE": True,
    "DELETE": False,
    "LIMIT": False,
    "MATCH": True,
    "MERGE": True,
    "ORDER": False,
    "REMOVE": False,
    "RETURN": False,
    "SET": True,
    "SKIP": False,
    "UNWIND": True,
    "WHERE": True,
    "WITH": False,
    "YIELD": False,
}
# After one of these in WITH, what is in its WHERE may have to equal an item.
_NARROWS: Final = frozenset(name.upper() for name in AGGREGATES) | {"DISTINCT"}
_TYPES: Final[dict[type, str]] = {float: "f", int: "i", str: "s"}
# After these a word is a name or part of an operator, whatever it is.
_NAME_FOLLOWS: Final = frozenset({".", ":", "|", "&", "AS", "STARTS", "ENDS"})
_OF_PROJECTION: Final = frozenset({"LIMIT", "ORDER", "SKIP"})
_COUNTS: Final = frozenset({"SKIP", "LIMIT"})
_OPEN: Final = frozenset("([{")
_CLOSE: Final = frozenset(")]}")


def normalise(text: str) -> tuple[str, dict[str, Any]]:
    """The text with its literals lifted, and the literals by parameter name.

    The first part is the key under which a plan may be cached, and can be parsed in place of
    ``text``: ``parse(key)`` with the literals as parameters means what ``parse(text)`` means, and
    so for ``analyse`` if it is given the literals.
    Never raises; a text that cannot be read comes back unchanged.
    """
    if len(text) > TEXT_CHARS_MAX:
        return text, {}
    literals: dict[str, Any] = {}
    pieces: list[str] = []
    copied = 0  # how much of the text is in the pieces
    copied_before = 0  # the same before the last literal was lifted
    lifts = False
    narrow = False
    depth = 0
    before = ""  # the token before: a word in upper case, a symbol, or what it was
    for match in TOKEN_PATTERN.finditer(text):
        group = match.lastgroup
        if group == "word":
            before_word, before = before, match["word"].upper()
            if depth == 0 and before in _LIFTS_AFTER and before_word not in _NAME_FOLLOWS:
                lifts = _LIFTS_AFTER[before] and not (narrow and before == "WHERE")
                # ORDER BY, SKIP and LIMIT belong to the projection; all else, and WHERE, ends it.
                narrow = narrow and before in _OF_PROJECTION
            elif before in _NARROWS and not lifts:
                narrow = True
        elif group == "symbol":
            symbol = match["symbol"]
            if symbol in _OPEN:
                depth += 1
            elif symbol in _CLOSE:
                depth -= 1
            elif symbol == ".." and before == "lifted":
                # It was the lower bound of a range.
                del pieces[-2:]
                copied = copied_before
                literals.popitem()
            before = symbol
        elif group == "number" or group == "string":
            written = match[group]
            if lifts:
                value = _string(written) if group == "string" else _number(written, before)
            else:
                value = _integer(written) if before in _COUNTS else None
            if value is None:
                before = group
                continue
            name = f" {len(literals)}"
            literals[name] = value
            end = match.end()
            pieces += (text[copied : end - len(written)], f"${name}")
            copied_before, copied = copied, end
            before = "lifted"
        elif group == "parameter":
            if text.startswith("$ ", match.end() - len(match["parameter"])):
                return text, {}
            before = group
        elif group == "end":
            break
        elif group == "quoted":
            before = group
        elif group == "bad":
            return text, {}
    if not literals:
        return text, literals
    types = [_TYPES[type(value)] for value in literals.values()]
    pieces += (text[copied:], "\n//", *types)
    return "".join(pieces), literals


def _string(written: str) -> str | None:
    try:
        return unescape_string(written)
    except ValueError:
        return None


def _number(written: str, before: str) -> int | float | None:
    """The value of a number, or ``None`` if it must stay: a bound of a range, or no good number."""
    if before == "*" or before == "..":
        return None
    if number_kind(written) == "FLOAT":
        value = number_value(written)
        return None if value == float("inf") else value
    return _integer(written)


def _integer(written: str) -> int | None:
    if number_kind(written) != "INTEGER":
        return None
    value = number_value(written)
    assert isinstance(value, int)
    return value if value <= INTEGER_MAX else None
