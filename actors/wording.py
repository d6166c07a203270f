"""What a client is told where no server has said anything: what happened, and what to do.

Each text says whether the thing was done, was not done, or is unknown.
"""

__all__ = ["LEAVING", "NOT_ANSWERED", "NO_LEADER", "OVERLOADED", "UNKNOWN", "UNKNOWN_CHANGE"]

NO_LEADER = (
    "No server leads the cluster at the moment: a majority of its servers is needed. Nothing was "
    "done; try again."
)
LEAVING = (
    "This server is being stopped, or leaves the cluster. Nothing was done; use another server."
)
OVERLOADED = "The server has too many writes waiting. Nothing was done; try again."
NOT_ANSWERED = (
    "The outcome could not be found out in time: no majority of servers answers. Ask again."
)
UNKNOWN = (
    "The outcome of this write is unknown: the server it was sent to was lost, and no other one "
    "could say in time whether it was committed. Look before you run it again, or give your "
    "transactions a rayft.transaction_id and ask SHOW TRANSACTION OUTCOME."
)
UNKNOWN_CHANGE = (
    "Whether this was done is unknown: no majority of the servers answered in time. SHOW SERVERS "
    "will tell as soon as one does."
)
