"""Neo4j status codes: the words in which a client is told what happened.

A driver decides by the code alone what it does next, so the choice of a code is a promise:

* *retryable* (see :func:`retryable`): a managed transaction is run again, from its beginning.
  Such a code
  says that the transaction was **not** done;
* ``Cluster.NotALeader`` and ``General.ForbiddenOnReadOnlyDatabase``: the driver also forgets this
  server as a writer and asks for a new routing table; ``General.DatabaseUnavailable``: it forgets
  this server altogether until the next table;
* ``Security.*`` and a few more end routing at once instead of trying the next server;
* ``Transaction.TransactionCommitFailed`` is for a commit whose outcome is **unknown**. It is a
  DatabaseError, which no driver retries; a retry could do the write twice.

Source: Neo4j status codes, https://neo4j.com/docs/status-codes/current/, and the rules which the
official drivers share for retries.
"""

from __future__ import annotations

__all__ = [
    "AUTHORIZATION_EXPIRED",
    "COMMIT_OUTCOME_UNKNOWN",
    "CONSTRAINT_VALIDATION_FAILED",
    "DATABASE_NOT_FOUND",
    "DATABASE_UNAVAILABLE",
    "FORBIDDEN",
    "FORBIDDEN_ON_READ_ONLY_DATABASE",
    "INVALID_BOOKMARK",
    "INVALID_BOOKMARK_MIXTURE",
    "LEADER_SWITCH",
    "LOCK_CLIENT_STOPPED",
    "MEMORY_POOL_OUT_OF_MEMORY",
    "NOT_A_LEADER",
    "NO_THREADS_AVAILABLE",
    "OUTDATED",
    "PROCEDURE_NOT_FOUND",
    "REQUEST_INVALID",
    "REQUEST_INVALID_FORMAT",
    "STATEMENT_ARGUMENT_ERROR",
    "STATEMENT_EXECUTION_FAILED",
    "STATEMENT_SYNTAX_ERROR",
    "STATEMENT_TYPE_ERROR",
    "TRANSACTION_NOT_FOUND",
    "TRANSACTION_TERMINATED",
    "TRANSACTION_TIMED_OUT",
    "UNAUTHORIZED",
    "UNKNOWN_ERROR",
    "retryable",
]

# The request or the protocol
REQUEST_INVALID = "Neo.ClientError.Request.Invalid"
REQUEST_INVALID_FORMAT = "Neo.ClientError.Request.InvalidFormat"

# Who may do what
UNAUTHORIZED = "Neo.ClientError.Security.Unauthorized"
AUTHORIZATION_EXPIRED = "Neo.ClientError.Security.AuthorizationExpired"
FORBIDDEN = "Neo.ClientError.Security.Forbidden"

# Where: leadership, availability, databases
NOT_A_LEADER = "Neo.ClientError.Cluster.NotALeader"
FORBIDDEN_ON_READ_ONLY_DATABASE = "Neo.ClientError.General.ForbiddenOnReadOnlyDatabase"
LEADER_SWITCH = "Neo.TransientError.Transaction.LeaderSwitch"
DATABASE_UNAVAILABLE = "Neo.TransientError.General.DatabaseUnavailable"
DATABASE_NOT_FOUND = "Neo.ClientError.Database.DatabaseNotFound"

# Transactions and bookmarks
INVALID_BOOKMARK = "Neo.ClientError.Transaction.InvalidBookmark"
INVALID_BOOKMARK_MIXTURE = "Neo.ClientError.Transaction.InvalidBookmarkMixture"
TRANSACTION_NOT_FOUND = "Neo.ClientError.Transaction.TransactionNotFound"
TRANSACTION_TERMINATED = "Neo.ClientError.Transaction.Terminated"
TRANSACTION_TIMED_OUT = "Neo.ClientError.Transaction.TransactionTimedOut"
OUTDATED = "Neo.TransientError.Transaction.Outdated"
COMMIT_OUTCOME_UNKNOWN = "Neo.DatabaseError.Transaction.TransactionCommitFailed"

# Resources
MEMORY_POOL_OUT_OF_MEMORY = "Neo.TransientError.General.MemoryPoolOutOfMemoryError"
NO_THREADS_AVAILABLE = "Neo.TransientError.Request.NoThreadsAvailable"

# Statements
STATEMENT_SYNTAX_ERROR = "Neo.ClientError.Statement.SyntaxError"
STATEMENT_TYPE_ERROR = "Neo.ClientError.Statement.TypeError"
STATEMENT_ARGUMENT_ERROR = "Neo.ClientError.Statement.ArgumentError"
STATEMENT_EXECUTION_FAILED = "Neo.DatabaseError.Statement.ExecutionFailed"
CONSTRAINT_VALIDATION_FAILED = "Neo.ClientError.Schema.ConstraintValidationFailed"
PROCEDURE_NOT_FOUND = "Neo.ClientError.Procedure.ProcedureNotFound"

UNKNOWN_ERROR = "Neo.DatabaseError.General.UnknownError"

# Two codes that began as TransientError and were moved to ClientError in Neo4j 5; drivers treat the
# old spelling as the new one.
LOCK_CLIENT_STOPPED = "Neo.TransientError.Transaction.LockClientStopped"
_TERMINATED_BEFORE_5 = "Neo.TransientError.Transaction.Terminated"

_NEVER = frozenset({LOCK_CLIENT_STOPPED, _TERMINATED_BEFORE_5})
_ALWAYS = frozenset({AUTHORIZATION_EXPIRED, NOT_A_LEADER, FORBIDDEN_ON_READ_ONLY_DATABASE})


def retryable(code: str) -> bool:
    """Whether a driver runs a managed transaction again that failed with ``code``."""
    if code in _NEVER:
        return False
    return code in _ALWAYS or code.startswith("Neo.TransientError.")
