"""The mutable state of a core and the transitions that every role shares.

``election.py``, ``follower.py`` and ``leader.py`` are functions over this state, one file a
concern; ``core.py`` is the door. Nothing here sends, writes or waits: outgoing things pile up in
lists until the next Ready takes them.
"""

from __future__ import annotations

from actors.raft.config import CoreConfig, Randomness
from actors.raft.log import Configuration, RaftLog
from actors.raft.membership import Membership
from actors.raft.messages import PeerMessage, SnapshotChunk
from actors.raft.persistence import Persistence
from actors.raft.progress import Progress
from actors.raft.reads import ReadQueue
from actors.raft.ready import (
    HardState,
    Proposed,
    ReadReady,
    Refused,
    Restored,
    Role,
    SnapshotMark,
    SnapshotWanted,
    SoftState,
)

__all__ = ["Handover", "Leadership", "Receiving", "State"]


class Handover:
    """Leadership is going to ``target``. ``token`` None: this leader has no vote and leaves."""

    __slots__ = ("deadline_ms", "target", "token", "told")

    def __init__(self, target: int, deadline_ms: int, token: int | None) -> None:
        self.target = target
        self.deadline_ms = deadline_ms
        self.token = token
        # TimeoutNow has been sent since the last heartbeat.
        self.told = False


class Leadership:
    """What only a leader has; made anew for each term, gone with it."""

    __slots__ = (
        "commit_notice_deadline_ms",
        "context",
        "errands",
        "handover",
        "heartbeat_deadline_ms",
        "progress",
        "reads",
        "recount",
        "removed",
        "term_start",
    )

    def __init__(self, term_start: int, deadline_ms: int) -> None:
        # All members but this one, and those in ``removed``; ``changes.sync_members`` sees to it.
        self.progress: dict[int, Progress] = {}
        # Servers that are no members any more, and when to stop sending to them; 0: not before
        # their removal is committed.
        self.removed: dict[int, int] = {}
        # The membership asks this leader for something, or this leader has no vote in it:
        # ``changes.drive``.
        self.errands = False
        # The membership is another one: majorities are to be counted anew.
        self.recount = False
        self.handover: Handover | None = None
        # Index of this term's NOOP: once it is committed, so is everything before it.
        self.term_start = term_start
        self.heartbeat_deadline_ms = deadline_ms
        # When followers hear of a commit index that no Append has carried; 0: they all know it.
        self.commit_notice_deadline_ms = 0
        self.reads = ReadQueue()
        # Newest read context of this leadership; 0 before the first read.
        self.context = 0


class Receiving:
    """A snapshot that is arriving from ``sender``; ``offset`` bytes of it were taken."""

    __slots__ = ("mark", "offset", "sender", "total")

    def __init__(self, sender: int, mark: SnapshotMark, total: int) -> None:
        self.sender = sender
        self.mark = mark
        self.total = total
        self.offset = 0


class State:
    """One server's Raft state. Functions of the role modules change it; users read ``core``."""

    __slots__ = (
        "_applied_configuration",
        "after_persist",
        "config",
        "context_counter",
        "dropped",
        "election_deadline_ms",
        "hurried_campaigns",
        "id",
        "installing",
        "leader",
        "leader_heard_ms",
        "leadership",
        "log",
        "log_reset",
        "membership_given",
        "now_ms",
        "outbox",
        "persistence",
        "proposed",
        "random",
        "reads",
        "reads_failed",
        "receiving",
        "refused",
        "removed",
        "role",
        "snapshot_chunks",
        "snapshot_requests",
        "soft_state_given",
        "term",
        "vote",
        "votes",
    )

    def __init__(
        self, config: CoreConfig, restored: Restored, random: Randomness, now_ms: int
    ) -> None:
        self.config = config
        self.random = random
        self.now_ms = now_ms
        self.id = config.server_id
        self.log = RaftLog(restored, Membership.of_voters(config.voters))
        self.membership_given = self.log.membership
        self.removed = False
        self._applied_configuration: Configuration | None = None
        self.persistence = Persistence(HardState(*restored.hard_state))
        self.role = Role.FOLLOWER
        self.term, self.vote = restored.hard_state
        if self.term < self.log.last_term:
            raise ValueError(
                f"the stored term {self.term} is below the last entry's term "
                f"{self.log.last_term}: the stored state is damaged"
            )
        self.leader = 0
        self.leader_heard_ms = now_ms
        # Time-outs still to be drawn short, because the leader is known to be dead.
        self.hurried_campaigns = 0
        self.votes: dict[int, bool] = {}
        self.leadership: Leadership | None = None
        self.context_counter = 0
        self.receiving: Receiving | None = None
        self.installing: Receiving | None = None
        self.dropped = 0
        self.note_removal()
        self.soft_state_given = self.soft_state
        self.election_deadline_ms = 0
        self._clear_outgoing()
        self.reset_election_deadline()

    def _clear_outgoing(self) -> None:
        self.outbox: list[PeerMessage] = []
        self.after_persist: list[PeerMessage] = []
        self.log_reset: SnapshotMark | None = None
        self.proposed: list[Proposed] = []
        self.refused: list[Refused] = []
        self.reads: list[ReadReady] = []
        self.reads_failed: list[int] = []
        self.snapshot_chunks: list[SnapshotChunk] = []
        self.snapshot_requests: list[SnapshotWanted] = []

    def take_outgoing(self) -> None:
        """Begin new lists after a Ready took the old ones."""
        self._clear_outgoing()

    @property
    def membership(self) -> Membership:
        """The membership in force: the newest in the log, committed or not."""
        return self.log.membership

    @property
    def peers(self) -> tuple[int, ...]:
        """Ids of all other members."""
        return tuple(peer for peer in self.membership.ids if peer != self.id)

    @property
    def other_voters(self) -> tuple[int, ...]:
        """Ids of all other members that vote."""
        return tuple(voter for voter in self.membership.voters if voter != self.id)

    def note_removal(self) -> None:
        """See whether what is applied says that this server is no member any more.

        One that is not a member *yet* has an id above all that the membership has used.
        """
        log = self.log
        configuration = log.configuration
        if configuration.index > log.applied_index:
            configuration = log.configuration_at(log.applied_index)
        if configuration is self._applied_configuration:
            return
        self._applied_configuration = configuration
        membership = configuration.membership
        self.removed = (
            configuration.index > 0
            and self.id <= membership.last_used_id
            and membership.get(self.id) is None
        )

    @property
    def soft_state(self) -> SoftState:
        """What others may like to know, as of now."""
        return SoftState(self.role, self.term, self.leader, self.removed)

    @property
    def hard_state(self) -> HardState:
        """Term and vote as of now."""
        return HardState(self.term, self.vote)

    def reset_election_deadline(self) -> None:
        """Draw a new time-out (paper, 5.2: randomised anew, so that split votes do not repeat)."""
        shortest = self.config.election_timeout_min_ms
        longest = self.config.election_timeout_max_ms
        if self.hurried_campaigns:
            self.hurried_campaigns -= 1
            shortest = self.config.heartbeat_interval_ms
            longest = 2 * shortest
        self.election_deadline_ms = self.now_ms + self.random.randint(shortest, longest)

    def become_follower(self, term: int, leader: int) -> None:
        """Follow ``leader`` (0: nobody yet) in ``term``, which is this one or a later one."""
        assert term >= self.term, (term, self.term)
        if term > self.term:
            self.term = term
            self.vote = 0
        if self.leadership is not None:
            self.reads_failed.extend(self.leadership.reads.fail_all())
            self.leadership = None
        self.role = Role.FOLLOWER
        self.leader = leader
        self.votes = {}
        if leader:
            self.hurried_campaigns = 0
        self.reset_election_deadline()

    def drop(self) -> None:
        """Count a peer's message, or part of one, that is malformed or impossible."""
        self.dropped += 1
