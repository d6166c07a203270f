"""What the simulator has found in the product, so that it is not found again.

Each entry has the seed that showed it and the test that holds the fix. Seeds are run again with the
others, but what a seed does depends on everything that is drawn, so it is the test that lasts.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FOUND", "Found"]


@dataclass(frozen=True)
class Found:
    """One bug: the seed, the check that saw it, what it was, and where its test is."""

    seed: int
    check: str
    what: str
    test: str


UNIT = "tests/unit/actors/"

FOUND = (
    Found(
        9,
        "Promise before durable",
        "after a kill, or a failed sync, a server answered for log frames that were in the page "
        "cache alone: the next power cut could take what it had promised",
        UNIT + "test_wal.py::test_what_a_log_was_opened_with_is_durable",
    ),
    Found(
        34,
        "Durable promises",
        "a flipped bit in the last frame of the log passed for a torn write: an acknowledged entry "
        "was cut off and the server started",
        UNIT + "test_wal.py::test_a_flipped_bit_is_refused_wherever_it_is",
    ),
    Found(
        34,
        "restart",
        "the other way round: unsynced frames whose sectors reached the disk out of order passed "
        "for damage, and a server did not start after a power cut",
        UNIT + "test_wal.py::test_sectors_that_never_reached_the_disk_are_a_torn_tail",
    ),
    Found(
        18,
        "Failed write appears",
        "a write that was committed, but whose rows were lost with its leader, was called not done "
        "by the Python handle",
        UNIT + "test_outcome_words.py"
        "::test_a_committed_write_whose_rows_are_lost_is_not_called_undone",
    ),
    Found(
        13,
        "Convergence",
        "a statement inside an explicit transaction whose message was lost waited ten minutes, "
        "whatever its time-out",
        UNIT + "test_outcome_words.py"
        "::test_a_statement_whose_message_is_lost_ends_with_its_own_time_out",
    ),
    Found(
        13,
        "Convergence",
        "a gateway that heard voters before the candidate they elected took the candidate's news "
        "for a step-down, and sent nothing to that leader for the rest of its term",
        UNIT + "test_router.py::test_a_candidate_heard_after_its_voters_has_not_stepped_down",
    ),
    Found(
        117,
        "Convergence",
        "a gateway believed in the term of a candidate, which every server then lost with its "
        "power; it took the next leader, of an earlier term, for an old one, and sent it nothing",
        UNIT + "test_router.py::test_a_term_without_a_leader_leaves_no_trace",
    ),
    Found(
        26,
        "Exactly once",
        "what a deposed leader refused late passed for the answer of its successor, to which the "
        "write had been sent meanwhile; it was sent there once more, and done twice",
        UNIT + "test_router.py"
        "::test_what_a_deposed_leader_refuses_late_is_not_its_successors_answer",
    ),
    Found(
        3427,
        "Fault promised, did not happen",
        "a server died while it waited to be added, and came back; the late news of its death hid "
        "the new life, and REPLACE SERVER waited for it in vain",
        UNIT + "test_out_of_sight.py::test_the_late_news_of_an_older_life_is_not_about_the_new_one",
    ),
    Found(
        2287,
        "Fault promised, did not happen",
        "a leader kept a snapshot, and its log since, for a follower that had gone away while it "
        "was being sent that snapshot",
        "tests/raft/test_raft_snapshots.py"
        "::test_nothing_is_read_for_a_silent_follower_until_it_answers_again",
    ),
    Found(
        16769,
        "Fault promised, did not happen",
        "under a steady stream of reads, each round of which is a heartbeat, a leader did nothing "
        "of what it does when a heartbeat is due: a lost chunk of a snapshot was never sent again",
        "tests/raft/test_raft_snapshots.py"
        "::test_reads_do_not_put_off_that_a_lost_chunk_is_sent_again",
    ),
)
