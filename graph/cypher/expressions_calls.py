"""Calls of built-in functions: null rule, vector form where there is one, else row by row."""

from __future__ import annotations

from collections.abc import Sequence

from graph.cypher.evaluation import Compiled, Context
from graph.cypher.functions.definition import Function
from graph.cypher.references import boxed, tighten
from graph.vector import Chunk, Vector

__all__ = ["CallNode"]


class CallNode(Compiled):
    """``function(arguments)``."""

    __slots__ = ("arguments", "function")

    def __init__(self, function: Function, arguments: Sequence[Compiled]) -> None:
        super().__init__(*arguments, volatile=function.volatile)
        self.function = function
        self.arguments = tuple(arguments)

    def evaluate(self, chunk: Chunk, context: Context) -> Vector:
        function = self.function
        length = chunk.length
        vectors = [argument.operand(chunk, context) for argument in self.arguments]
        if function.vector is not None:
            vector = function.vector(context, vectors, length)
            if vector is not None:
                return vector
        call = function.implementation
        leading = (context,) if function.needs_context else ()
        if not vectors:
            return tighten([call(*leading) for _ in range(length)])
        columns = [boxed(vector, length) for vector in vectors]
        if len(columns) == 1 and not leading and not function.nulls:
            return tighten([None if value is None else call(value) for value in columns[0]])
        rows = zip(*columns, strict=True)
        if function.nulls:
            return tighten([call(*leading, *row) for row in rows])
        return tighten(
            [None if any(v is None for v in row) else call(*leading, *row) for row in rows]
        )
