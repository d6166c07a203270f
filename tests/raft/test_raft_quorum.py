"""Majority arithmetic: exhaustive for one to nine voters, and etcd's cases where they are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path

import pytest

from actors.raft.quorum import VoteResult, majority, majority_value, vote_result

DATA = Path(os.environ.get("RAYFT_RAFT_DATA", "../shared/raft_data")) / "etcd/quorum/testdata"


@pytest.mark.parametrize("n", range(1, 10))
def test_two_majorities_always_share_a_member_and_nothing_smaller_does(n: int) -> None:
    needed = majority(n)
    groups = [set(group) for group in combinations(range(n), needed)]
    assert all(a & b for a in groups for b in groups)
    smaller = [set(group) for group in combinations(range(n), needed - 1)]
    assert not all(a & b for a in smaller for b in smaller)


@pytest.mark.parametrize("n", range(1, 10))
def test_majority_value_is_the_largest_that_a_majority_reached(n: int) -> None:
    high = 4 if n <= 5 else 2
    for values in product(range(high), repeat=n):
        best = max(v for v in range(high) if sum(x >= v for x in values) >= majority(n))
        assert majority_value(values) == best, values


@pytest.mark.parametrize("n", range(1, 10))
def test_every_ballot_is_won_lost_or_pending(n: int) -> None:
    voters = range(1, n + 1)
    for ballots in product((True, False, None), repeat=n):
        votes = {
            voter: vote for voter, vote in zip(voters, ballots, strict=True) if vote is not None
        }
        granted, refused = ballots.count(True), ballots.count(False)
        expected = VoteResult.PENDING
        if granted * 2 > n:
            expected = VoteResult.WON
        elif (n - refused) * 2 <= n:
            expected = VoteResult.LOST
        assert vote_result(votes, voters) is expected, ballots


def test_votes_of_strangers_do_not_count() -> None:
    assert vote_result({1: True, 8: True, 9: True}, (1, 2, 3)) is VoteResult.PENDING


def cases(name: str) -> Iterator[tuple[str, str]]:
    """(command line, last line of the expected output) of a file of etcd's."""
    lines: list[str] = []
    for line in [*(DATA / name).read_text().splitlines(), ""]:
        if line and not line.startswith("#"):
            lines.append(line)
        elif lines:
            yield lines[0], lines[-1]
            lines = []


def numbers(line: str, key: str) -> list[str]:
    found = re.search(key + r"=\(([^)]*)\)", line)
    return [part.strip() for part in found[1].split(",") if part.strip()] if found else []


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no etcd test data in {DATA}")
def test_commit_indexes_of_etcd() -> None:
    tried = 0
    for line, expected in cases("majority_commit.txt"):
        voters = numbers(line, "cfg")
        indexes = [0 if i == "_" else int(i) for i in numbers(line, "idx")]
        if voters and expected.isdigit() and len(indexes) == len(set(voters)) == len(voters):
            assert majority_value(indexes) == int(expected), line
            tried += 1
    assert tried >= 10


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no etcd test data in {DATA}")
def test_vote_results_of_etcd() -> None:
    tried = 0
    names = {"VoteWon": VoteResult.WON, "VoteLost": VoteResult.LOST}
    for line, expected in cases("majority_vote.txt"):
        voters = [int(voter) for voter in numbers(line, "cfg")]
        ballots = numbers(line, "votes")
        if voters and len(ballots) == len(voters):
            votes = {v: b == "y" for v, b in zip(voters, ballots, strict=True) if b != "_"}
            assert vote_result(votes, voters) is names.get(expected, VoteResult.PENDING), line
            tried += 1
    assert tried >= 10
