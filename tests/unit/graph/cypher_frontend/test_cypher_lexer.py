"""Tokens, literals, comments, names; and where in the text something is."""

import pytest
from frontend_support import expression, lit, param, prop, var

from graph.cypher.lexer import (
    TEXT_CHARS_MAX,
    locate,
    number_value,
    tokenize,
    unescape_string,
)
from graph.cypher.parser import parse
from graph.errors import CypherSyntaxError


def kinds(text: str) -> list[str]:
    return tokenize(text).kinds[:-2]


TOKENS = [
    ("MATCH match Match", ["MATCH"] * 3),
    ("matched _match match1", ["NAME"] * 3),
    ("über Ж変数", ["NAME"] * 2),
    (
        "<- -> --> <-- <> <= >=",
        ["<", "-", "-", ">", "-", "-", ">", "<", "-", "-", "<>", "<=", ">="],
    ),
    ("a<-1", ["NAME", "<", "-", "INTEGER"]),
    ("1..3", ["INTEGER", "..", "INTEGER"]),
    ("*..3", ["*", "..", "INTEGER"]),
    ("1.5..2.5", ["FLOAT", "..", "FLOAT"]),
    ("+= + = =~ =", ["+=", "+", "=", "=~", "="]),
    ("a/b", ["NAME", "/", "NAME"]),
    ("a//b", ["NAME"]),
    ("a/**/b/* * / ** */c", ["NAME"] * 3),
    ("1 // one\n2 // two\r3", ["INTEGER"] * 3),
    ("'/* no */' \"// no\"", ["STRING", "STRING"]),
    ("$a $0 $`b c` $ 7", ["PARAMETER"] * 4),
    ("\ufeffRETURN\u00a01\u20031", ["RETURN", "INTEGER", "INTEGER"]),
    ("0x1F 0o17 1e5 1.5E-3 .5 007", ["INTEGER", "INTEGER", "FLOAT", "FLOAT", "FLOAT", "INTEGER"]),
    (
        "0x 0xG 0o8 1a 1e 1.5.5 1_0 ١",
        ["BADNUMBER"] * 5 + ["FLOAT", "FLOAT", "BADNUMBER", "BADNUMBER"],
    ),
    ("", []),
    ("   \n\t", []),
]


@pytest.mark.parametrize(("text", "expected"), TOKENS)
def test_tokens(text: str, expected: list[str]) -> None:
    assert kinds(text) == expected


def test_tokens_know_where_they_stand() -> None:
    tokens = tokenize("RETURN  'a' + `b c`")
    places = list(zip(tokens.starts, tokens.ends, strict=True))[:-2]
    assert places == [(0, 6), (8, 11), (12, 13), (14, 19)]
    assert tokens.values[:-2] == ["RETURN", "'a'", "+", "b c"]


LITERALS = [
    ("0", 0),
    ("42", 42),
    ("0042", 42),
    ("-42", -42),
    ("9223372036854775807", 9223372036854775807),
    ("-9223372036854775808", -9223372036854775808),
    ("0x7FFFFFFFFFFFFFFF", 9223372036854775807),
    ("-0x8000000000000000", -9223372036854775808),
    ("0xff", 255),
    ("0XfF", 255),
    ("0o777", 511),
    ("-0o1000000000000000000000", -9223372036854775808),
    ("1.0", 1.0),
    ("-1.5", -1.5),
    (".5", 0.5),
    ("1e3", 1000.0),
    ("1E-3", 0.001),
    ("1.5e+3", 1500.0),
    ("1e-400", 0.0),
    ("true", True),
    ("FALSE", False),
    ("Null", None),
    ("''", ""),
    ("'it\\'s'", "it's"),
    ('"it\'s"', "it's"),
    ("'\\\\ \\b\\f\\n\\r\\t \\\" \\` \\/'", '\\ \b\f\n\r\t " ` /'),
    ("'\\u00e9\\U0001F600'", "é😀"),
    ("'\\ud83d\\ude00'", "😀"),
    ("'é😀\n'", "é😀\n"),
    ("'\\\\u0041'", "\\u0041"),
]


@pytest.mark.parametrize(("text", "value"), LITERALS)
def test_literals(text: str, value: object) -> None:
    assert expression(text) == lit(value)


BAD = [
    ("9223372036854775808", "IntegerOverflow"),
    ("-9223372036854775809", "IntegerOverflow"),
    ("0x8000000000000000", "IntegerOverflow"),
    ("-0o1000000000000000000001", "IntegerOverflow"),
    ("1" * 5000, "IntegerOverflow"),
    ("1e400", "FloatingPointOverflow"),
    ("-1e400", "FloatingPointOverflow"),
    ("0x", "InvalidNumberLiteral"),
    ("12abc", "InvalidNumberLiteral"),
    ("'\\u12'", "InvalidUnicodeLiteral"),
    ("'\\U00110000'", "InvalidUnicodeLiteral"),
    ("'\\ud83d'", "InvalidUnicodeLiteral"),
    ("'\\ude00\\ud83d'", "InvalidUnicodeLiteral"),
    ("'\\q'", "UnexpectedSyntax"),
    ("'open", "UnexpectedSyntax"),
    ("'open\\'", "UnexpectedSyntax"),
    ("`open", "UnexpectedSyntax"),
    ("1 /* open", "UnexpectedSyntax"),
    ("1 /*", "UnexpectedSyntax"),
    ("1 # 2", "UnexpectedSyntax"),
    ("1 — 2", "InvalidUnicodeCharacter"),
    ("$", "UnexpectedSyntax"),
    ("$` 0`", "UnexpectedSyntax"),
]


@pytest.mark.parametrize(("text", "detail"), BAD)
def test_what_cannot_be_read(text: str, detail: str) -> None:
    with pytest.raises(CypherSyntaxError) as caught:
        parse(f"RETURN {text}")
    assert caught.value.detail == detail
    assert "\n" in caught.value.message


def test_names_in_backquotes() -> None:
    assert expression("`a``b`") == var("a`b")
    assert expression("`match`.`return`") == prop("match", "return")
    assert expression("$`a b`") == param("a b")
    assert expression("``") == var("")


def test_a_string_escape_is_shown_in_its_place() -> None:
    with pytest.raises(CypherSyntaxError) as caught:
        parse("RETURN 'ab\\qc'")
    assert caught.value.message.splitlines() == [
        "Invalid string literal: \\q is not an escape; write \\\\ for a backslash "
        "(line 1, column 11 (offset: 10))",
        "\"RETURN 'ab\\qc'\"",
        "           ^",
    ]


PLACES = [
    ("abc", 0, "(line 1, column 1 (offset: 0))", '"abc"', 1),
    ("abc", 3, "(line 1, column 4 (offset: 3))", '"abc"', 4),
    ("a\nbcd\ne", 3, "(line 2, column 2 (offset: 3))", '"bcd"', 2),
    ("a\r\nbcd\r\ne", 4, "(line 2, column 2 (offset: 4))", '"bcd"', 2),
    ("a\rbcd", 2, "(line 2, column 1 (offset: 2))", '"bcd"', 1),
    ("\ta", 1, "(line 1, column 2 (offset: 1))", '" a"', 2),
    ("", 0, "(line 1, column 1 (offset: 0))", '""', 1),
    ("ab", 99, "(line 1, column 3 (offset: 2))", '"ab"', 3),
]


@pytest.mark.parametrize(("text", "offset", "place", "line", "caret"), PLACES)
def test_places(text: str, offset: int, place: str, line: str, caret: int) -> None:
    assert locate(text, offset).split("\n") == [place, line, " " * caret + "^"]


def test_a_long_line_is_cut_around_the_place() -> None:
    text = "x" * 500 + "!" + "y" * 500
    place, line, caret = locate(text, 500).split("\n")
    assert place == "(line 1, column 501 (offset: 500))"
    assert len(line) < 140
    assert line[len(caret) - 1] == "!"


def test_a_text_has_a_limit() -> None:
    tokenize(" " * TEXT_CHARS_MAX)
    with pytest.raises(CypherSyntaxError, match="the limit is 1048576") as caught:
        tokenize(" " * (TEXT_CHARS_MAX + 1))
    assert caught.value.detail == "QueryTooLong"


@pytest.mark.parametrize(
    "text",
    [
        "'" + "\\'" * 100_000,
        "/*" + "*/ /*" * 50_000,
        "/*" * 100_000,
        "`" + "``" * 100_000,
        "$`" + "``" * 100_000,
        " " * 200_000 + "#",
        "1e" * 100_000,
        "a." * 100_000 + "(",
    ],
)
def test_reading_is_linear(text: str) -> None:
    # Where reading goes back over what it read, these do not end before the test's timeout.
    with pytest.raises(CypherSyntaxError):
        parse("RETURN " + text)


def test_numbers_as_written() -> None:
    assert number_value("0x10") == 16
    assert number_value("1e1") == 10.0
    assert isinstance(number_value("1e1"), float)
    # Thousands of digits are never converted.
    assert number_value("9" * 100_000) > 2**63


def test_unescaping_tells_where_it_failed() -> None:
    with pytest.raises(ValueError) as caught:
        unescape_string("'ab\\u12'")
    assert caught.value.args[1] == 3
