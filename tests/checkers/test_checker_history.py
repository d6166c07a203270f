"""Histories: outcomes, order, the form on disk, verdicts."""

from __future__ import annotations

import pytest

from tests.checkers.history import (
    FINDINGS_MAX,
    Verdict,
    combined,
    from_json,
    frozen,
    precedes,
    shown,
    to_json,
    valid_history,
    verdict,
)
from tests.checkers.making import failed, ok, unknown


def test_an_operation_survives_json() -> None:
    for operation in (
        ok(1, "txn", (("append", "x", 1), ("read", "x")), (None, (1, 2)), at=(1, 9)),
        failed(2, "write", ("k", None), at=(3, 3)),
        unknown(3, "add", "é", at=(4, 8)),
    ):
        assert from_json(to_json(operation)) == operation


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"client": 1', '{"outcome": "maybe"}'])
def test_what_is_no_operation_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        from_json(line)


def test_precedence_needs_an_answer_and_a_gap() -> None:
    later = ok(2, "read", "k", at=(5, 6))
    assert precedes(ok(1, "write", ("k", 1), at=(1, 4)), later)
    assert not precedes(ok(1, "write", ("k", 1), at=(1, 5)), later)
    assert not precedes(unknown(1, "write", ("k", 1), at=(1, 2)), later)


def test_frozen_values_tell_apart_what_python_calls_equal() -> None:
    assert len({frozen(1), frozen(1.0), frozen(True)}) == 3
    assert frozen([1, [2]]) == frozen((1, (2,)))
    assert frozen({"a": [1]}) == frozen({"a": (1,)}) != frozen({"a": (True,)})


def test_a_history_that_makes_no_sense_is_an_error_and_no_finding() -> None:
    with pytest.raises(ValueError, match="unknown action 'raed'"):
        valid_history([ok(1, "raed", "k", at=(1, 2))], ("read",))
    with pytest.raises(ValueError, match="before it was invoked"):
        valid_history([ok(1, "read", "k", at=(2, 1))], ("read",))


def test_the_verdict_is_the_worst_of_what_was_found() -> None:
    assert verdict([], 3) == Verdict(True, (), 3)
    assert verdict([], 3, ["too long"]) == Verdict(None, ("too long",), 3)
    assert verdict(["bad"], 3, ["too long"]).valid is False
    many = verdict([str(number) for number in range(100)], 1)
    assert len(many.findings) == FINDINGS_MAX + 1
    assert many.findings[-1] == f"and {100 - FINDINGS_MAX} more"


def test_verdicts_combine_to_the_worst() -> None:
    good, bad = Verdict(True, (), 2), Verdict(False, ("bad",), 3)
    undecided = Verdict(None, (), 4)
    assert combined([good, good]) == Verdict(True, (), 4)
    assert combined([good, undecided]).valid is None
    assert combined([good, undecided]).findings
    assert combined([good, undecided, bad]) == Verdict(
        False, ("bad", "a checker could not decide"), 9
    )
    assert combined([]) == Verdict(True, (), 0)


def test_an_operation_is_shown_in_one_line() -> None:
    assert shown(unknown(3, "add", 5, at=(4, 8))) == "client 3 add 5 [4..? unknown]"
    long = ok(3, "read", None, tuple(range(10_000)), at=(4, 8))
    assert len(shown(long)) < 1_000
