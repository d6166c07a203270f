"""``=~``: whole-string match of a regular expression."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from graph.cypher.evaluation import Compiled, Context, bool_vector
from graph.cypher.references import boxed
from graph.errors import CypherArgumentError
from graph.vector import Chunk, Vector

__all__ = ["RegexNode"]


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise CypherArgumentError(f"Invalid regular expression `{pattern}`: {error}") from None


class RegexNode(Compiled):
    """``left =~ right``: null unless both are strings."""

    __slots__ = ("left", "right")

    def __init__(self, left: Compiled, right: Compiled) -> None:
        super().__init__(left, right)
        self.left = left
        self.right = right

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        left = boxed(self.left.operand(chunk, context), chunk.length)
        right = boxed(self.right.operand(chunk, context), chunk.length)
        return bool_vector([_matches(text, p) for text, p in zip(left, right, strict=True)])


def _matches(text: Any, pattern: Any) -> bool | None:
    if not isinstance(text, str) or not isinstance(pattern, str):
        return None
    return _compiled(pattern).fullmatch(text) is not None
