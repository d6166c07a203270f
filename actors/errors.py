"""What can go wrong between a client and the servers, and whether the thing was done.

::

    RayftError
    ├── NotDone                      certainly not executed, and never will be: retry is safe
    │   ├── NotLeader                the server asked does not lead, or no longer in that term
    │   └── Overloaded               a queue is full
    ├── OutcomeUnknown               the write may or may not have been executed; never retryable
    ├── DirectoryRefused             wrong, foreign, locked or damaged data directory; untouched
    │   └── ServerRemoved            its server was removed from the cluster
    ├── Diverged                     this server's graph is wrong; the process must end
    ├── Restart                      all is well, and goes on in a new process
    └── DiskFailure                  a write or sync failed; the process must end
"""

from __future__ import annotations

__all__ = [
    "DAMAGED",
    "DirectoryRefused",
    "DiskFailure",
    "Diverged",
    "NotDone",
    "NotLeader",
    "OutcomeUnknown",
    "Overloaded",
    "RayftError",
    "Restart",
    "ServerRemoved",
]


# What an operator can do about a damaged directory.
DAMAGED = (
    "The data directory is damaged. Keep it for inspection, and leave this server stopped: the "
    "others go on while they are a majority. Put a new server in its place, with an empty "
    "directory and an id that was never used: memgraph_ha replace-server. Only if no majority is "
    "left for good: memgraph_ha recover DIRECTORY, on a directory that is not damaged."
)


class RayftError(Exception):
    """Base of the errors of this package."""


class NotDone(RayftError):
    """The request was certainly not executed."""


class NotLeader(NotDone):
    """The server that was asked does not lead the cluster (any more)."""


class Overloaded(NotDone):
    """A bounded queue is full; the request was not taken."""


class OutcomeUnknown(RayftError):
    """The write was sent on and nobody can say any more whether it was executed."""


class DirectoryRefused(RayftError):
    """The data directory is not this server's, is in use, or is damaged."""


class Diverged(RayftError):
    """This server's graph is not that of the others. The process ends; the next one stays apart

    until it has another server's state (``quarantine.py``).
    """


class Restart(RayftError):
    """The process is to end, so that the next one starts from what is on the disk now."""


class ServerRemoved(DirectoryRefused):
    """The server of that directory was removed from its cluster; its id is used up."""


class DiskFailure(RayftError):
    """A write or a sync failed. What the page cache holds is not to be trusted any more, so the

    process ends and the next one starts from what is on the disk (PostgreSQL's fsync lesson, 2018).
    """
