"""The paper as tests: each sentence that says must, and each rule of its figures, has one.

"The paper" is Ongaro and Ousterhout, In Search of an Understandable Consensus Algorithm, extended
version; "D" is Ongaro's dissertation. The table below names for each rule the test that holds it;
the tests stand in ``test_raft_paper_elections.py``, ``_replication.py`` and ``_later.py``. The five
properties of figure 3 speak of whole clusters: ``harness.py`` and ``script_world.py`` check them
after every event; figures 7, 8 and 13 are in ``test_raft_figures.py`` and among the scripts.

Where the core does something else on purpose, and what:

    6       joint consensus: one server at a time instead (D 4.1)
    D 4.2.1 catching up in rounds: a bound on what a newcomer lacks instead
    7       pieces of a snapshot sent without waiting: each is asked for
    5.3     entries in the first request to a follower: an empty probe instead
    D 6.4.1 reads by leases: not done, clocks are not trusted with safety
    fig. 2  requests for votes before the own vote is durable: they wait for it

5.1 Terms
  Whoever sees a larger term takes it over, and follows
    test_a_larger_term_in_any_message_is_taken_over
    test_a_candidate_or_leader_whose_term_is_out_of_date_becomes_a_follower_at_once
  Requests and answers of earlier terms do nothing
    test_a_server_rejects_a_request_with_a_stale_term
    test_an_answer_of_an_earlier_term_counts_for_nothing
  Terms only grow
    test_the_term_never_falls
  Followers are passive, and send clients to the leader
    test_a_follower_issues_no_requests_on_its_own
    test_a_follower_sends_clients_to_the_leader

5.2 Elections
  A server starts as a follower and stays one while it hears from a leader of its term
    test_servers_begin_as_followers
    test_a_server_stays_a_follower_while_it_hears_from_a_leader
    test_a_stale_leader_does_not_keep_a_server_a_follower
  Leaders send heartbeats, the first at once
    test_a_leader_sends_heartbeats_to_all_followers
    test_a_new_leader_makes_itself_known_at_once
  Silence over the election time-out begins an election; a vote granted counts as a sign of life
    test_a_follower_that_hears_nothing_over_the_election_timeout_begins_an_election
    test_a_granted_vote_starts_the_time_out_anew_and_a_refused_one_does_not
  A candidate increments its term, votes for itself, asks all others, and waits a new time-out
    test_a_candidate_increments_its_term_votes_for_itself_and_asks_all_others
    test_a_candidate_draws_its_time_out_anew
  A majority's votes in one term make a leader
    test_a_candidate_wins_with_votes_of_a_majority_and_not_before
    test_the_same_vote_twice_counts_once
    test_votes_of_an_earlier_election_do_not_count_in_the_next
  One vote in a term, first come, first served, whatever happens in between
    test_a_server_votes_for_at_most_one_candidate_in_a_term_first_come_first_served
    test_a_candidate_does_not_vote_for_another_one_in_its_term
    test_a_new_term_frees_the_vote
    test_a_vote_survives_a_restart
  A candidate follows a leader of its term or a later one, and no other
    test_a_candidate_follows_a_leader_whose_term_is_at_least_its_own
    test_a_candidate_stays_one_when_a_smaller_term_claims_to_lead
  Without a winner there is another election; time-outs are random
    test_a_candidate_whose_votes_split_starts_a_new_election_with_a_larger_term
    test_a_candidate_that_a_majority_refuses_is_a_follower_again
    test_election_timeouts_are_drawn_from_the_interval_anew_each_time

5.3 The log
  A leader appends, and replicates in parallel
    test_a_leader_appends_a_command_and_sends_it_to_all_followers_in_parallel
    test_an_entry_holds_its_index_its_term_and_its_command
    test_one_slow_follower_does_not_hold_up_the_others
  Committed is what a majority has, with all before it; only that is applied, in order
    test_an_entry_is_committed_once_a_majority_has_it_and_not_before
    test_committing_an_entry_commits_all_before_it_those_of_earlier_leaders_too
    test_a_command_is_applied_only_when_it_is_committed
    test_a_follower_applies_an_entry_once_it_knows_that_it_is_committed_and_in_order
  Followers learn the commit index from the leader, as far as their logs are known to match
    test_a_leader_includes_its_commit_index_in_what_it_sends
    test_a_follower_commits_nothing_beyond_what_an_append_shows_to_match
    test_the_commit_index_never_falls
  A leader retries for ever
    test_a_leader_retries_for_ever_until_a_follower_has_everything
  Log Matching: one entry at a place in a term; entries only after one that matches
    test_a_leader_appends_one_entry_at_an_index_and_never_moves_it
    test_a_follower_refuses_entries_unless_it_has_the_one_before_with_its_term
    test_a_refused_append_changes_nothing
  Conflicts are resolved by the leader's log, from where the logs match
    test_conflicting_entries_of_a_follower_are_replaced_and_only_those
    test_a_new_leader_begins_just_after_the_last_entry_of_its_log
    test_after_a_refusal_the_leader_goes_back_until_the_logs_match_and_then_forward
    test_a_success_moves_match_index_and_next_index
    test_a_refusal_names_the_conflicting_term_so_that_all_its_entries_are_skipped
  Leader Append-Only
    test_a_leader_never_overwrites_or_deletes_entries_of_its_own_log

5.4 Safety
  A voter refuses a candidate whose log is less up to date
    test_a_voter_refuses_a_candidate_whose_log_is_less_up_to_date
  Only entries of the own term are committed by counting; entries keep their term
    test_only_entries_of_the_own_term_are_committed_by_counting
    test_entries_of_earlier_terms_keep_their_term_when_they_are_replicated
  What is committed stays
    test_what_is_committed_is_never_truncated

5.5, 5.6 Crashes and time
  Requests may be repeated, and are
    test_requests_that_arrive_twice_do_no_harm
    test_a_request_is_sent_again_until_it_is_answered
  Heartbeats are more frequent than time-outs
    test_heartbeats_must_be_more_frequent_than_time_outs

Figure 2: persistent state, before an answer
    test_term_and_vote_are_durable_before_a_vote_is_answered
    test_a_candidate_asks_for_votes_only_when_its_own_is_durable
    test_entries_are_durable_before_they_are_acknowledged
    test_a_leaders_own_copy_counts_when_it_is_durable

6, D 4.1 Changes of membership
  In force as soon as it is in the log; the one before if its entry goes
    test_a_membership_is_in_force_as_soon_as_it_is_in_the_log_of_the_leader
    test_a_membership_is_in_force_as_soon_as_it_is_in_the_log_of_a_follower
    test_a_membership_that_is_replaced_in_the_log_falls_back_to_the_one_before
  Majorities are those of the membership in force
    test_a_change_is_committed_by_a_majority_of_the_new_membership
    test_votes_of_a_majority_of_the_membership_in_force_are_needed
    test_votes_of_strangers_do_not_count
  One change at a time, and none before an own entry is committed
    test_the_next_change_waits_until_the_one_before_is_committed
    test_a_new_leader_changes_nothing_before_it_has_committed_in_its_term
    test_a_new_leader_inherits_a_change_that_is_not_committed
  Requests of servers outside the own membership are considered
    test_a_server_takes_entries_of_a_leader_that_is_not_in_its_membership
    test_a_server_votes_for_a_candidate_that_is_not_in_its_membership

D 4.2 Availability during changes
  Newcomers have no vote until they have caught up
    test_a_server_that_belongs_to_nothing_does_not_campaign
    test_a_learner_does_not_count_for_commits
    test_a_server_becomes_a_voter_only_when_it_has_caught_up
  A leader that is removed leads until that is committed, and does not count itself
    test_a_leader_that_is_removed_does_not_count_itself
    test_a_leader_that_is_removed_steps_down_when_that_is_committed
    test_a_server_whose_removal_is_not_committed_may_still_campaign
    test_a_server_whose_removal_is_committed_does_not_campaign
  Removed servers disturb nobody
    test_requests_for_votes_are_ignored_while_a_leader_is_heard

D 3.10 Transfer of leadership
    test_a_leader_that_hands_over_takes_no_more_proposals
    test_the_successor_is_told_when_it_has_the_whole_log
    test_the_successor_campaigns_without_waiting_for_its_time_out
    test_a_server_that_is_not_as_far_as_the_leader_thinks_does_not_campaign
    test_such_a_candidate_is_voted_for_although_the_leader_is_heard
    test_a_transfer_is_given_up_after_an_election_time_out

7 Log compaction
  A snapshot holds index, term and membership of its last entry, and only what is committed
    test_a_snapshot_takes_the_place_of_the_entries_up_to_its_last_one
    test_a_snapshot_covers_only_what_is_committed_and_applied
    test_a_snapshot_keeps_the_membership_of_its_last_entry
  A leader sends it to whom it cannot send entries any more
    test_a_follower_gets_a_snapshot_when_the_entries_that_it_needs_are_gone
  Figure 13, rules 1 to 8
    test_a_piece_of_a_snapshot_of_an_earlier_term_is_refused
    test_the_pieces_are_stored_in_order_from_a_new_file_on
    test_each_piece_counts_as_hearing_from_the_leader
    test_an_unfinished_older_snapshot_gives_way_to_a_newer_one
    test_a_snapshot_older_than_the_state_is_not_stored
    test_a_snapshot_of_what_the_log_holds_discards_nothing_after_it
    test_a_snapshot_that_the_log_does_not_hold_takes_its_place

8, D 6.2, D 6.4 Clients
  A leader's own first entry, before anything is read
    test_a_leader_begins_its_term_with_an_entry_of_its_own
    test_a_read_waits_until_that_entry_is_committed
  A round with a majority that began after the read
    test_a_read_is_served_at_the_commit_index_of_when_it_was_asked
    test_a_read_waits_for_a_majority_that_still_follows
    test_answers_from_before_the_read_prove_nothing
    test_a_learners_answer_confirms_no_read
  A leader without a majority steps down
    test_a_leader_that_hears_no_majority_for_an_election_time_out_steps_down

D 9.6 Pre-vote
    test_a_pre_vote_asks_about_the_next_term_and_the_end_of_the_log
    test_a_term_is_raised_only_when_a_majority_would_vote
    test_answering_a_pre_vote_changes_nothing_and_writes_nothing
    test_a_pre_vote_is_not_given_while_a_leader_is_heard
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PARTS = sorted(Path(__file__).parent.glob("test_raft_paper_*.py"))


def rules_of(path: Path) -> dict[str, str]:
    """Each test of a file and its docstring."""
    return {
        node.name: ast.get_docstring(node) or ""
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_the_table_names_every_test_once_and_nothing_else() -> None:
    named = [line.strip() for line in (__doc__ or "").splitlines() if line.startswith("    test_")]
    there = [name for path in PARTS for name in rules_of(path)]
    assert len(PARTS) == 3
    assert sorted(named) == sorted(there)


@pytest.mark.parametrize("path", PARTS, ids=lambda path: path.stem)
def test_every_test_says_which_section_it_holds(path: Path) -> None:
    sections = ("Figure ", "Dissertation, ", *"5678")
    silent = [name for name, text in rules_of(path).items() if not text.startswith(sections)]
    assert silent == []
