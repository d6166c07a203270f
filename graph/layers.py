"""A dictionary that grows without pauses.

A Python dictionary of millions of keys takes half a second and more to grow, and no other thread of
the process runs meanwhile: a server falls silent because one more string was new. ``Layers`` is a
run of dictionaries of bounded size. A key stands in one of them; new keys go to the newest; a
lookup asks the newest first. What is done to many keys at once is done in slices, between which
other threads run.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

__all__ = ["SLICE_KEYS", "Layers"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# Two thirds of 2^20: where a dictionary would grow beyond a million slots, which takes some 15 ms.
LAYER_KEYS_MAX = 699_050
SLICE_KEYS = 65_536


class Layers(Generic[K, V]):
    """See the module. One thread may write while others read. No value may be None."""

    __slots__ = ("_layers", "_older")

    def __init__(self) -> None:
        self._layers: tuple[dict[K, V], ...] = ({},)  # the newest first
        self._older = 0  # keys in all but the newest

    def __len__(self) -> int:
        return self._older + len(self._layers[0])

    def get(self, key: K) -> V | None:
        for layer in self._layers:
            found = layer.get(key)
            if found is not None:
                return found
        return None

    def get_many(self, keys: Sequence[K]) -> list[V | None]:
        """``get`` of each."""
        if len(keys) <= SLICE_KEYS:
            return self._get_slice(keys)
        found: list[V | None] = []
        for start in range(0, len(keys), SLICE_KEYS):
            found += self._get_slice(keys[start : start + SLICE_KEYS])
        return found

    def _get_slice(self, keys: Sequence[K]) -> list[V | None]:
        newest, *others = self._layers
        found = list(map(newest.get, keys))
        for layer in others:
            if None not in found:
                break
            get = layer.get
            found = [
                get(key) if value is None else value for key, value in zip(keys, found, strict=True)
            ]
        return found

    def items(self) -> Iterator[tuple[K, V]]:
        """All keys with their values, in no order to rely on."""
        for layer in self._layers:
            yield from layer.items()

    def __setitem__(self, key: K, value: V) -> None:
        for layer in self._layers:
            if key in layer:
                layer[key] = value
                return
        self.add(key, value)

    def add(self, key: K, value: V) -> None:
        """``key`` is known to be new."""
        newest = self._layers[0]
        if len(newest) >= LAYER_KEYS_MAX:
            self._older += len(newest)
            newest = {}
            self._layers = (newest, *self._layers)
        newest[key] = value

    def isdisjoint(self, keys: Collection[K]) -> bool:
        """Whether none of ``keys`` is here."""
        rest = iter(keys)
        for _ in range(0, len(keys), SLICE_KEYS):
            part = list(islice(rest, SLICE_KEYS))
            if not all(layer.keys().isdisjoint(part) for layer in self._layers):
                return False
        return True

    def add_many(self, keys: Sequence[K], values: Sequence[V]) -> None:
        """Keys that are known to be new, each once; at most ``SLICE_KEYS``."""
        room = LAYER_KEYS_MAX - len(self._layers[0])
        if room < len(keys):
            for key, value in zip(keys, values, strict=True):
                self.add(key, value)
        else:
            self._layers[0].update(zip(keys, values, strict=True))
