"""A server whose graph is wrong: it stays apart until it has the state of another server.

What is wrong is the *state*, not the log: entries are checksummed on the disk, and that logs agree
is Raft's own work. So such a server keeps its log, its term and its vote, goes on acknowledging
entries and voting, and no promise that it ever gave is broken. But it serves nobody, takes no
snapshots, and does not stand for election. The course of it:

1. The state machine finds out (``divergence.py``), or the newest snapshot turns out to be damaged
   when the server starts. A *case* is written to ``diverged.json``, and the process ends.
2. The next start finds the case. The snapshots are moved to ``diverged-<time>/``, where the
   operator may examine them; nothing is deleted. What the log follows on is kept in the case.
3. Apart from the others, the server asks the leader for an image: a snapshot file that stands for
   the log up to the verdict or further (the leader takes one for it), piece by piece
   (``notes.py``). It lands in ``rescue/`` and is checked as every snapshot is. If Raft sends a
   snapshot meanwhile, because the server is behind, that does as well.
4. When its own log has got as far as the image, the image becomes its snapshot, the case is closed,
   and the process ends once more. The next start is an ordinary one.

A server that comes to this more than ``CASES_MAX`` times has bad memory or a bad disk: it refuses
to start until a person has looked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import NoReturn

import structlog

from actors.disk import Disk
from actors.divergence import Divergence
from actors.errors import DAMAGED, DirectoryRefused, Restart
from actors.machine import StateMachine
from actors.notes import ImageChunk, ImageWanted, Note, PeerNote
from actors.protocol import Reply, Status
from actors.raft.membership import Membership
from actors.raft.messages import Entry, EntryKind
from actors.raft.ready import RefusalReason, SoftState
from actors.replica import Replica, Speculation
from actors.service import Item
from actors.snapshots import SnapshotMeta, SnapshotStore, mark_of
from graph.store import Root

__all__ = ["Case", "HollowReplica", "QuarantinedMachine", "is_open_case", "open_case", "resume"]

log = structlog.get_logger()

CASES_MAX = 3
FORMAT_VERSION = 1
# After so long without an answer a piece is asked for again.
RETRY_SECONDS = 2.0

_FILE = "diverged.json"
_RESCUE = "rescue"


@dataclass(frozen=True, slots=True)
class Case:
    """One time that this server's state was found to be wrong."""

    time: str  # of day, when it was found
    found: str  # what is wrong, for people
    since: int  # an image must stand for the log up to here at least
    folder: str  # where the files of that time are
    base_index: int = -1  # what the log follows on: the newest snapshot; -1: not looked up yet
    base_term: int = 0
    base_membership: str = ""
    aside: bool = False  # the files have been moved
    image: str = ""  # name of the image, once it is here and good
    closed: bool = False

    def membership(self) -> Membership | None:
        """As of the base. Raises ``ValueError`` if it is damaged."""
        encoded = self.base_membership
        return Membership.decode(bytes.fromhex(encoded)) if encoded else None


def open_case(disk: Disk, divergence: Divergence, time: str) -> None:
    """Write down that this server's state is wrong. ``time``: of day, as in file names."""
    cases = _read(disk)
    if cases and not cases[-1].closed:
        return
    cases.append(Case(time, divergence.found, divergence.since, f"diverged-{time}"))
    _write(disk, cases)


def resume(disk: Disk, snapshots: SnapshotStore) -> Case | None:
    """Called at every start: the open case, with its files set aside; None for an ordinary start.

    Raises:
        DirectoryRefused: this has happened too often, or the files cannot be used.
    """
    cases = _read(disk)
    if not cases or cases[-1].closed:
        return None
    if len(cases) > CASES_MAX:
        raise DirectoryRefused(_too_often(cases))
    case = cases[-1]
    if not case.aside:
        if case.base_index < 0:
            case = _with_base(case, snapshots)
            _write(disk, [*cases[:-1], case])
        disk.make_directory(case.folder)
        for name in snapshots.names():
            disk.rename(f"{snapshots.directory}/{name}", f"{case.folder}/{name}")
        case = replace(case, aside=True)
        _write(disk, [*cases[:-1], case])
    if case.image:
        disk.make_directory(_RESCUE)
        if case.image in disk.names(_RESCUE):
            disk.rename(f"{_RESCUE}/{case.image}", f"{snapshots.directory}/{case.image}")
        _write(disk, [*cases[:-1], replace(case, closed=True)])
        return None
    return case


def is_open_case(disk: Disk) -> bool:
    """Whether the server of this directory is to stay apart when it is started."""
    cases = _read(disk)
    return bool(cases) and not cases[-1].closed


def _with_base(case: Case, snapshots: SnapshotStore) -> Case:
    name = snapshots.newest()
    if name is None:
        return replace(case, base_index=0)
    meta = snapshots.meta(name)
    return replace(
        case, base_index=meta.index, base_term=meta.term, base_membership=meta.membership
    )


def _read(disk: Disk) -> list[Case]:
    try:
        text = disk.read(_FILE)
    except FileNotFoundError:
        return []
    try:
        fields = json.loads(text)
        if fields["format"] != FORMAT_VERSION:
            raise ValueError(f"its format is {fields['format']}, not {FORMAT_VERSION}")
        return [Case(**case) for case in fields["cases"]]
    except (ValueError, TypeError, KeyError) as error:
        raise DirectoryRefused(f"{_FILE} cannot be read ({error}). " + DAMAGED) from error


def _write(disk: Disk, cases: Sequence[Case]) -> None:
    fields = {"format": FORMAT_VERSION, "cases": [asdict(case) for case in cases]}
    disk.replace(_FILE, (json.dumps(fields, indent=2) + "\n").encode())


def _too_often(cases: Sequence[Case]) -> str:
    folders = ", ".join(case.folder for case in cases[:-1])
    return (
        f"This server's state has been found wrong {len(cases)} times, the last time because "
        f"{cases[-1].found}. Its memory or its disk is to be distrusted. Replace the server under "
        f"a new id (REPLACE SERVER). Or, when you know the cause and it is gone, keep {folders} "
        f"elsewhere, remove all but the last case from {_FILE}, and start it again."
    )


class HollowReplica(Replica):
    """Follows the log and holds no state."""

    def apply(self, entry: Entry) -> Speculation | None:
        assert entry.index == self.applied_index + 1
        self.applied_index, self.applied_term = entry.index, entry.term
        if entry.kind is EntryKind.CONFIG:
            self.membership = entry.data
        return None

    def capture(self) -> tuple[SnapshotMeta, Root] | None:
        return None


class QuarantinedMachine(StateMachine):
    """The state machine of a server that stays apart: refuses everybody, and fetches an image.

    ``quarantine`` must be called before anything else. Raises ``Restart`` when it has a new state.
    """

    def quarantine(self, case: Case, disk: Disk) -> None:
        """Begin. ``disk`` is the server's."""
        self._case = case
        # Further than the verdict if the log behind it is gone: the two must meet.
        self._at_least = max(case.since, case.base_index)
        self._disk = disk
        self._store = SnapshotStore(disk, _RESCUE)
        for name in self._store.names():
            self._store.remove(name)  # of a life that ended before it was written into the case
        self._image = (0, 0)  # index, term
        self._offset = 0
        self._whole = ""  # name of the image when all of it is here
        self._asked_at = 0.0
        self._begun = self._clock()

    @property
    def health(self) -> str:
        return f"diverged: {self._case.found}; fetching an image, {self._offset} bytes so far"

    # ----------------------------------------------------------------- from the server loop

    def apply(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.replica.apply(entry)
        self._applied(entries[-1].index)
        self._maybe_close()

    def role_changed(self, state: SoftState) -> None:
        self._state = state

    def proposal_refused(self, token: int, reason: RefusalReason) -> None:
        raise AssertionError("a server in quarantine proposes nothing")

    def restored(self) -> None:
        """Raft brought a snapshot: it is in the place of the ones that were set aside."""
        if self.replica.applied_index >= self._at_least:
            self._close("")

    def noted(self, peer: int, note: Note) -> None:
        if isinstance(note, ImageChunk) and peer == self._state.leader:
            self._take(note)

    def sweep(self, now: float) -> None:
        if self._state.leader and not self._whole and now - self._asked_at >= RETRY_SECONDS:
            self._ask()
        self.service.sessions.sweep(now)

    # ----------------------------------------------------------------- from clients

    def submit_writes(self, items: Sequence[Item]) -> None:
        self.backlog.take(items)
        self._refuse(items)

    def submit_restore(self, items: Sequence[Item]) -> None:
        self._refuse(items)

    def submit_leader_reads(self, items: Sequence[Item]) -> None:
        self._refuse(items)

    def submit_local_reads(self, items: Sequence[Item]) -> None:
        self._refuse(items)

    def _refuse(self, items: Sequence[Item]) -> None:
        term = self._state.term
        replies = [(i, Reply(i.request.id, Status.NOT_LEADER, term)) for i in items]
        self.service.reply_all(replies)

    # ----------------------------------------------------------------- the image

    def _ask(self) -> None:
        self._asked_at = self._clock()
        wanted = ImageWanted(self._at_least, *self._image, self._offset)
        self._post(PeerNote(self._state.leader, wanted))

    def _take(self, chunk: ImageChunk) -> None:
        if self._whole or chunk.index < self._at_least or not chunk.data:
            return
        if chunk.offset == 0 and (chunk.index, chunk.term) != self._image:
            self._image, self._offset = (chunk.index, chunk.term), 0
        if (chunk.index, chunk.term, chunk.offset) != (*self._image, self._offset):
            return
        self._store.receive(chunk.offset, chunk.data)
        self._offset += len(chunk.data)
        if self._offset < chunk.total:
            self._ask()
            return
        try:
            self._whole = self._store.finish()
        except DirectoryRefused as error:
            log.warning("an image from the leader is damaged", error=str(error))
            self._image, self._offset = (0, 0), 0
            return
        log.info("an image is here", name=self._whole, bytes=self._offset)
        self._maybe_close()

    def _maybe_close(self) -> None:
        """The log must reach the image: what this server has promised is in the log behind it."""
        if self._whole and mark_of(self._whole)[0] <= self.replica.applied_index:
            self._close(self._whole)

    def _close(self, image: str) -> NoReturn:
        cases = _read(self._disk)
        case = replace(self._case, image=image, closed=not image)
        _write(self._disk, [*cases[:-1], case])
        seconds = round(self._clock() - self._begun, 3)
        raise Restart(f"this server has the state of another one, after {seconds} s")
