"""Every bound of this package, with its reason."""

from __future__ import annotations

# --- gateway -----------------------------------------------------------------
# Client connections of one gateway: PostgreSQL defaults to 100, Redis to 10,000; each costs us
# some 30 kB, and an idle one nothing else.
CONNECTIONS_MAX = 2_000
# A connection that has not authenticated by then is closed (Neo4j: 30 s).
AUTHENTICATION_SECONDS_MAX = 30.0
# A connection that sends nothing for so long is closed.
IDLE_SECONDS_MAX = 30 * 60.0
# A gateway that ends lets its clients finish what is under way: not longer than the one, and not
# shorter than the other, in which active clients hear that they are to go elsewhere.
DRAIN_SECONDS_MAX = 5.0
DRAIN_SECONDS_MIN = 1.0
# Requests one gateway may have outstanding; beyond it clients hear a transient error.
OUTSTANDING_REQUESTS_MAX = 10_000
# Bytes of one client's unread answers held by the gateway before it stops asking for more.
WRITE_BUFFER_BYTES_MAX = 1 * 2**20
# Bytes of requests that one gateway has sent and that are not answered; beyond it clients hear a
# transient error.
OUTSTANDING_BYTES_MAX = 512 * 2**20
# Requests in one message between gateway and server.
BATCH_REQUESTS_MAX = 1_024

# --- server ------------------------------------------------------------------
# Rows travel in pieces of about this size; a larger result is asked for piece by piece.
REPLY_BYTES_MAX = 256 * 1024
# Batches of writes executed ahead of their replication: enough to fill the pipe (execute, sync,
# send, apply), few enough that what waits gathers into large batches.
SPECULATIONS_MAX = 4
# Requests that must wait before a batch is executed while another one replicates.
OVERLAPPING_BATCH_MIN = 128
# How long the first few of a crowd wait for the others before they are executed: what answers
# take to their clients and the next requests back.
GATHER_SECONDS_MAX = 0.010
# Write requests waiting to be executed; beyond it they are refused as overloaded.
WAITING_WRITES_MAX = 20_000
# Their bytes: a client's parameters are in memory until they are executed.
WAITING_WRITES_BYTES_MAX = 256 * 2**20
# Requests executed in one batch: bounds the time between two looks at the queue.
WRITE_BATCH_MAX = 512
# Appends on their way to one follower: later entries gather and travel together.
APPENDS_IN_FLIGHT_MAX = 4
# The leader's log beyond its commit index.
UNCOMMITTED_BYTES_MAX = 256 * 2**20
# What a single transaction may write: it must find room beside others' that are under way.
TRANSACTION_BYTES_MAX = 192 * 2**20
# Open cursors and explicit transactions of one server; each holds a root of the graph.
CURSORS_MAX = 10_000
TRANSACTIONS_MAX = 1_000
# An explicit transaction that is not used for so long is rolled back (Neo4j: none; PostgreSQL's
# idle_in_transaction_session_timeout is what operators set to about this).
TRANSACTION_IDLE_SECONDS_MAX = 60.0
# A cursor whose client does not pull for so long is closed.
CURSOR_IDLE_SECONDS_MAX = 300.0
# A query may run for so long unless its client asks for less (Memgraph: 600 s; Neo4j: none).
QUERY_SECONDS_MAX = 600.0
# Memory of one query: rows held by sorting, grouping, collecting, or by the result of a write.
QUERY_BYTES_MAX = 1 * 2**30
# Threads that run reads. They share one interpreter lock, so more would not be faster; they let
# short reads overtake long ones.
READER_THREADS = 4
# Ids touched by recent writes, kept to find conflicts of open explicit transactions.
TOUCHED_IDS_MAX = 2_000_000
# Messages for the server loop that it has not taken; peers resend, so what is above is dropped.
INBOX_MESSAGES_MAX = 10_000
# Their bytes: what a leader may have on its way to a follower is far less.
INBOX_BYTES_MAX = 64 * 2**20
# The log in memory and on disk: a snapshot is taken at this size even if there are fewer entries
# than log_size_snapshot_threshold.
LOG_BYTES_MAX = 512 * 2**20
# Of the log before a snapshot this much stays for followers that are a little behind, besides the
# bound in entries (a tenth of log_size_snapshot_threshold; etcd keeps 5,000 entries).
LOG_KEPT_BYTES_MAX = 64 * 2**20
# A snapshot file that a follower is being sent is not removed before it has not asked for so long.
SNAPSHOT_LEASE_SECONDS = 60.0
# Superseded snapshot files kept for such followers: bounds the disk space.
SNAPSHOT_LEASES_MAX = 2
# How long a statement about the cluster (ADD SERVER, ...) may take.
ADMINISTRATION_SECONDS_MAX = 60.0
# The servers compare their graphs when so many entries and seconds have passed since the last
# time: 1,000 entries cost some 20 ms of a reader thread (benchmarks/digest.py).
DIGEST_ENTRIES = 1_000
DIGEST_SECONDS = 10.0
# No writes are taken while less is free on the disk: room for the log until a snapshot frees some,
# and for that snapshot's beginning.
DISK_FREE_BYTES_MIN = 256 * 2**20
# How long SHOW STORAGE INFO waits for a server (the original's limit).
STORAGE_INFO_SECONDS_MAX = 1.0
# Backups being fetched from one server at once: each holds a root, and a core while it is made.
BACKUPS_MAX = 2
# A backup that is being restored is in the log, and in the memory of every server, before it
# becomes the graph; a graph takes some ten times as much.
RESTORE_BYTES_MAX = 2 * 2**30
# One request of a restore, in PackStream bytes.
RESTORE_PART_BYTES_MAX = 1 * 2**20
# A restore that is not gone on with for so long is given up; while it lasts no snapshots are taken.
RESTORE_IDLE_SECONDS_MAX = 60.0
