"""The server's states, as a table.

A connection is in one state; a request is legal in some of them, and its summary response decides
the next state. That is all in ``_TABLE``: (state, request) -> state after SUCCESS, state after
FAILURE, and, for requests that read a result, state after SUCCESS with ``has_more``. A pair that
is not in the table is a violation of the protocol, unless one of three rules that cut across all
states applies:

* FAILED and INTERRUPTED: every request but HELLO is answered IGNORED and changes nothing;
* RESET works by a signal. When it *arrives*, ahead of the queue, a connection in any state from
  READY on becomes INTERRUPTED (as soon as the request being carried out is answered, whatever the
  answer). When it is *reached* in the queue, it is answered and leads to READY;
* GOODBYE leads to DEFUNCT from anywhere and is not answered.

::

    HANDSHAKE ─► NEGOTIATION ─HELLO─► AUTHENTICATION ─LOGON─► READY        5.1 and later
              └► CONNECTED ─────────────HELLO (with credentials)─► READY   5.0 and before

    READY ─RUN─► STREAMING ─PULL, DISCARD to the end─► READY
    READY ─BEGIN─► TX_READY ─RUN─► TX_STREAMING ─last result read─► TX_READY
    TX_READY ─COMMIT, ROLLBACK─► READY

In TX_STREAMING several results may be open, each with its qid; reading one to its end leads to
TX_READY only if it was the last. COMMIT and ROLLBACK are legal in TX_READY only: a client reads or
discards its results first.

Source: https://neo4j.com/docs/bolt/current/bolt/server-state/ and the transition tables in
https://neo4j.com/docs/bolt/current/appendix/version-5/ and version-4/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from bolt.messages import RequestTag
from bolt.versions import Protocol

__all__ = [
    "IGNORING",
    "INTERRUPTIBLE",
    "States",
    "Transition",
    "initial",
    "transition",
]


class States(Enum):
    """Where a connection stands. The value is the name in the specification."""

    # The specification's DISCONNECTED: no version has been agreed on yet.
    HANDSHAKE = "DISCONNECTED"
    CONNECTED = "CONNECTED"
    NEGOTIATION = "NEGOTIATION"
    AUTHENTICATION = "AUTHENTICATION"
    READY = "READY"
    STREAMING = "STREAMING"
    TX_READY = "TX_READY"
    TX_STREAMING = "TX_STREAMING"
    FAILED = "FAILED"
    INTERRUPTED = "INTERRUPTED"
    DEFUNCT = "DEFUNCT"

    # Members are single objects; Enum's own hash is a Python function, met on every request.
    __hash__ = object.__hash__


_S = States
_R = RequestTag


@dataclass(frozen=True, slots=True)
class Transition:
    """Where a request leads. ``more`` is None for requests that know no ``has_more``."""

    success: States
    failure: States
    more: States | None = None


_TABLE: Mapping[tuple[States, RequestTag], Transition] = MappingProxyType(
    {
        (_S.CONNECTED, _R.HELLO): Transition(_S.READY, _S.DEFUNCT),
        (_S.NEGOTIATION, _R.HELLO): Transition(_S.AUTHENTICATION, _S.DEFUNCT),
        (_S.AUTHENTICATION, _R.LOGON): Transition(_S.READY, _S.DEFUNCT),
        (_S.READY, _R.LOGOFF): Transition(_S.AUTHENTICATION, _S.FAILED),
        (_S.READY, _R.RUN): Transition(_S.STREAMING, _S.FAILED),
        (_S.READY, _R.BEGIN): Transition(_S.TX_READY, _S.FAILED),
        (_S.READY, _R.ROUTE): Transition(_S.READY, _S.FAILED),
        (_S.READY, _R.TELEMETRY): Transition(_S.READY, _S.FAILED),
        (_S.STREAMING, _R.PULL): Transition(_S.READY, _S.FAILED, more=_S.STREAMING),
        (_S.STREAMING, _R.DISCARD): Transition(_S.READY, _S.FAILED, more=_S.STREAMING),
        (_S.TX_READY, _R.RUN): Transition(_S.TX_STREAMING, _S.FAILED),
        (_S.TX_READY, _R.COMMIT): Transition(_S.READY, _S.FAILED),
        (_S.TX_READY, _R.ROLLBACK): Transition(_S.READY, _S.FAILED),
        (_S.TX_STREAMING, _R.RUN): Transition(_S.TX_STREAMING, _S.FAILED),
        (_S.TX_STREAMING, _R.PULL): Transition(_S.TX_READY, _S.FAILED, more=_S.TX_STREAMING),
        (_S.TX_STREAMING, _R.DISCARD): Transition(_S.TX_READY, _S.FAILED, more=_S.TX_STREAMING),
        (_S.INTERRUPTED, _R.RESET): Transition(_S.READY, _S.DEFUNCT),
    }
)

# States in which requests are answered IGNORED.
IGNORING = frozenset({_S.FAILED, _S.INTERRUPTED})

# States that the arrival of a RESET turns into INTERRUPTED. Not the ones before authentication:
# there a RESET waits for its turn, and is a violation if the client is not authenticated by then.
INTERRUPTIBLE = frozenset(
    {_S.READY, _S.STREAMING, _S.TX_READY, _S.TX_STREAMING, _S.FAILED, _S.INTERRUPTED}
)


def initial(protocol: Protocol) -> States:
    """The state after the handshake."""
    return States.NEGOTIATION if protocol.logon else States.CONNECTED


def transition(state: States, request: RequestTag) -> Transition | None:
    """Where ``request`` leads from ``state``; None if it is illegal there or ruled by no row."""
    return _TABLE.get((state, request))
