"""Errors of the wire and storage forms that the core defines."""

from __future__ import annotations

__all__ = ["CodecError"]


class CodecError(ValueError):
    """The bytes are no message or membership of a known version; the text says what is wrong."""
