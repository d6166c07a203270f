"""Regular expressions: the automaton agrees with ``re``, and no pattern runs away."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.cypher.regex import Pattern
from graph.errors import CypherArgumentError, LimitError


def nothing():
    """No deadline."""


MATCHES = [
    ("a.c", "abc", True),
    ("a.c", "a\nc", False),
    ("(?s)a.c", "a\nc", True),
    ("abc", "abcd", False),
    ("", "", True),
    ("a|", "", True),
    ("(?i)abc", "aBC", True),
    ("a(?i)b", "aB", True),
    ("a(?i:b)c", "aBC", False),
    ("(?i)a(?-i)b", "AB", False),
    ("[^a-c]+", "xyz", True),
    ("[]x]+", "]x", True),
    (r"[\]\d]+", "]7", True),
    (r"\d{2,3}", "1234", False),
    (r"\w+@\w+\.com", "me@x.com", True),
    (r"\w", "\u00e9", False),
    (r"\Qa.b\E+", "a.bb", True),
    (r"\Qa.b", "axb", False),
    ("^a$", "a", True),
    ("a^b", "ab", False),
    (r"\bfoo\b.*", "foo bar", True),
    (r"\bfoo\b.*", "foobar", False),
    ("(?<year>\\d+)-(?P<month>\\d+)", "2020-01", True),
    ("a{0}", "", True),
    ("(ab){2}", "abab", True),
    ("x{,2}", "x{,2}", True),
    ("(?m)a$\n^b", "a\nb", True),
    (r"\u00e9\x41\t", "\u00e9A\t", True),
    ("a*?", "aaa", True),
    ("(a|b)*c", "ababc", True),
    ("((a*)*)*", "aaaa", True),
    ("\U0001f600+", "\U0001f600\U0001f600", True),
]


@pytest.mark.parametrize(("pattern", "text", "expected"), MATCHES)
def test_match(pattern, text, expected):
    compiled = Pattern(pattern)
    assert compiled.matches(text, nothing) is expected
    assert compiled.run(text, nothing) is expected


ERRORS = ["(", ")", "a)", "[a", "*", "a**+", "(?=a)", "(?<!a)b", r"(a)\1", "a++", "a{3,2}"]
ERRORS += ["a{2000}", "(?z)a", r"\p{L}", "[a-z&&[aeiou]]", "((a{900}){900})", "(" * 100, "\\"]
ERRORS += ["[z-a]", "^*", "a" * 20_000]


@pytest.mark.parametrize("pattern", ERRORS)
def test_error(pattern):
    with pytest.raises(CypherArgumentError, match="egular expression"):
        Pattern(pattern)


atoms = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", r"\w", r"\b", "^", "$", ""])


def compounds(inner):
    quantified = st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "*?", ""]))
    return (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map("|".join)
        | quantified.map(lambda pair: f"(?:{pair[0]}){pair[1]}")
    )


patterns = st.recursive(atoms, compounds, max_leaves=8)


@given(patterns, st.text("abc \n", max_size=7))
@settings(max_examples=200, deadline=None)
def test_the_automaton_agrees_with_re(pattern, text):
    expected = re.fullmatch(pattern.replace("$", r"\Z"), text, re.ASCII) is not None
    compiled = Pattern(pattern)
    assert compiled.run(text, nothing) is expected
    assert compiled.matches(text, nothing) is expected


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(a+)+b", "a" * 5_000),
        ("(a|aa)+b", "a" * 5_000),
        ("(a?){100}a{100}b", "a" * 150),
        (".*.*.*.*=.*", "x" * 5_000),
        ("(.*a){20}", "b" * 2_000),
        (r"(\w+\s?)+!", "word " * 1_000),
    ],
)
def test_patterns_that_make_backtracking_explode_are_run_by_the_automaton(pattern, text):
    compiled = Pattern(pattern)
    compiled.backtracking = None  # were it asked, the test would fail by an AttributeError
    assert compiled.matches(text, nothing) is False

    class Trap:
        def fullmatch(self, text):
            raise AssertionError("this pattern must not go to the backtracking matcher")

    compiled.backtracking = Trap()
    assert compiled.matches(text, nothing) is False


def test_ordinary_patterns_go_to_re():
    seen = []

    class Spy:
        def fullmatch(self, text):
            seen.append(text)

    for pattern in ("abc", "a.*b", r"\d+-\d+", "(?i)foo.*", "(ab|cd)x?", ".*foo.*"):
        compiled = Pattern(pattern)
        compiled.backtracking = Spy()
        compiled.matches("some text of ordinary length", nothing)
    assert len(seen) == 6


def test_the_deadline_interrupts_a_long_text():
    def over():
        raise LimitError("time is up")

    with pytest.raises(LimitError):
        Pattern("(a+)+b").matches("a" * 100, over)


def test_caches_are_bounded(monkeypatch):
    from graph.cypher import regex

    monkeypatch.setattr(regex, "CACHE_ENTRIES_MAX", 10)
    compiled = Pattern("(.*a.*|b)*c")
    assert compiled.run("".join(map(chr, range(100, 400))), nothing) is False
    assert len(compiled.steps) <= 10
    assert len(compiled.closures) <= 10
