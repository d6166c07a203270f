"""The handshake: is this Bolt at all, and which version do both sides speak?

A client opens with four bytes of identification and four slots of four bytes, best first. A slot is
``00 range minor major`` and stands for ``major.minor`` and the ``range`` minor versions below it. A
slot that ends in ``FF`` asks for a manifest instead of naming versions; it is skipped, and the
client's other slots are used, as the specification allows. The server answers with one version, or
with zero and closes.

We take the best version that *we* know among all that are offered, not the first slot that
matches: a client that lists 4.4 before 5.x speaks both equally well.

Source: https://neo4j.com/docs/bolt/current/bolt/handshake/.
"""

from __future__ import annotations

from collections.abc import Sequence

from bolt.errors import RemoteProtocolError
from bolt.versions import PREFERENCE

__all__ = [
    "HANDSHAKE_BYTES",
    "MAGIC",
    "NO_VERSION",
    "check_magic",
    "choose",
    "encode_version",
    "offered",
]

MAGIC = b"\x60\x60\xb0\x17"
HANDSHAKE_BYTES = len(MAGIC) + 4 * 4
NO_VERSION = b"\x00\x00\x00\x00"

_HTTP_VERBS = (b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"DELE", b"PATC", b"CONN", b"PRI ")


def check_magic(data: bytes) -> None:
    """Raise ``RemoteProtocolError`` unless ``data`` can be, or begins with, Bolt's identification.

    Works on the first bytes as they come, so that a stranger is told at once. The message names
    what the bytes look like, because the usual cause is a client with the wrong port or scheme.
    """
    if data[: len(MAGIC)] == MAGIC[: len(data)]:
        return
    if len(data) < len(MAGIC) and any(
        verb.startswith(data) for verb in (*_HTTP_VERBS, b"\x16\x03")
    ):
        return
    if data[:2] == b"\x16\x03":
        guess = (
            "it looks like a TLS handshake; connect without encryption (bolt:// or neo4j://) or "
            "switch TLS on at the server"
        )
    elif data[:4] in _HTTP_VERBS:
        guess = "it looks like an HTTP or WebSocket request; this port speaks Bolt over plain TCP"
    else:
        guess = "check that the client is a Bolt client"
    raise RemoteProtocolError(
        f"expected the Bolt identification 60 60 b0 17, got {data[:4].hex(' ')}: {guess}"
    )


def offered(slots: bytes) -> set[tuple[int, int]]:
    """All versions named by the four slots (16 bytes); a manifest request names none."""
    versions: set[tuple[int, int]] = set()
    for at in range(0, 16, 4):
        _, below, minor, major = slots[at : at + 4]
        if major not in (0, 0xFF):
            versions.update((major, minor - i) for i in range(min(below, minor) + 1))
    return versions


def choose(
    slots: bytes, preference: Sequence[tuple[int, int]] = PREFERENCE
) -> tuple[int, int] | None:
    """The best version of ``preference`` that the client offers, or None."""
    client = offered(slots)
    return next((version for version in preference if version in client), None)


def encode_version(version: tuple[int, int]) -> bytes:
    """The server's answer: ``00 00 minor major``."""
    major, minor = version
    return bytes((0, 0, minor, major))
