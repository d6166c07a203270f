"""``=~``: whole-string match of a regular expression; see ``regex`` for the language."""

from __future__ import annotations

from graph.cypher.evaluation import Compiled, Context, bool_vector
from graph.cypher.references import boxed
from graph.cypher.regex import compile_pattern
from graph.vector import Chunk, Kind, Vector

__all__ = ["RegexNode"]


class RegexNode(Compiled):
    """``left =~ right``: null unless both are strings."""

    __slots__ = ("left", "right")

    def __init__(self, left: Compiled, right: Compiled) -> None:
        super().__init__(left, right)
        self.left = left
        self.right = right

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        left = boxed(self.left.operand(chunk, context), chunk.length)
        patterns = self.right.operand(chunk, context)
        check = context.deadline_check
        if len(patterns) == 1 and chunk.length:
            (pattern,) = boxed(patterns)
            if not isinstance(pattern, str):
                return Vector.nulls(Kind.BOOL, chunk.length)
            matches = compile_pattern(pattern).matches
            return bool_vector([matches(t, check) if isinstance(t, str) else None for t in left])
        right = boxed(patterns, chunk.length)
        return bool_vector(
            [
                compile_pattern(pattern).matches(text, check)
                if isinstance(text, str) and isinstance(pattern, str)
                else None
                for text, pattern in zip(left, right, strict=True)
            ]
        )
