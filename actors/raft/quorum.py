"""Majority arithmetic: the one place that knows how many are enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum

__all__ = ["VoteResult", "majority", "majority_value", "vote_result"]


class VoteResult(IntEnum):
    """State of a ballot."""

    PENDING = 0
    WON = 1
    LOST = 2


def majority(voters: int) -> int:
    """The smallest number of ``voters`` (>= 1) such that any two such groups share a member."""
    return voters // 2 + 1


def majority_value(values: Iterable[int]) -> int:
    """The largest value that a majority has reached, given one value per voter (at least one).

    With match indexes this is the commit index (paper, 5.3); with acknowledged read contexts
    it is the newest confirmed one; with times of last contact it is when a majority was heard.
    """
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2]


def vote_result(votes: Mapping[int, bool], voters: Iterable[int]) -> VoteResult:
    """Outcome of a ballot of ``voters``; votes of anyone else do not count."""
    granted = refused = total = 0
    for voter in voters:
        total += 1
        vote = votes.get(voter)
        if vote is True:
            granted += 1
        elif vote is False:
            refused += 1
    needed = majority(total)
    if granted >= needed:
        return VoteResult.WON
    return VoteResult.LOST if total - refused < needed else VoteResult.PENDING
