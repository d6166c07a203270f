"""A dictionary in layers is a dictionary."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph import layers
from graph.indexes import Index, IndexInfo
from graph.layers import Layers

KEYS = st.integers(0, 30)
STEPS = st.lists(st.one_of(st.lists(KEYS, max_size=8), st.tuples(KEYS, KEYS)), max_size=30)


@given(steps=STEPS)
@settings(max_examples=200)
def test_like_a_dictionary(steps: list[list[int] | tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "LAYER_KEYS_MAX", 5)
        patch.setattr(layers, "SLICE_KEYS", 3)
        model: dict[int, int] = {}
        found: Layers[int, int] = Layers()
        for step in steps:
            if isinstance(step, tuple):
                found[step[0]] = model[step[0]] = step[1]
            else:
                new = sorted(set(step) - model.keys())
                assert found.isdisjoint(set(new))
                assert found.isdisjoint(set(step)) is model.keys().isdisjoint(step)
                found.add_many(new, [-key for key in new])
                model.update({key: -key for key in new})
            assert len(found) == len(model)
            assert max(map(len, found._layers)) <= 8
        assert dict(found.items()) == model
        assert found.get_many(range(31)) == [model.get(key) for key in range(31)]
        assert [found.get(key) for key in range(31)] == [model.get(key) for key in range(31)]


def test_an_index_larger_than_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graph.indexes.SLICE_KEYS", 4)
    monkeypatch.setattr(layers, "LAYER_KEYS_MAX", 6)
    index = Index(IndexInfo("i", "range", "node", "L", ("k",)))
    keys = [None if i % 5 == 4 else i % 17 for i in range(60)]
    index.add(keys, range(60))
    for key in range(17):
        assert index.candidates(key) == [i for i in range(60) if keys[i] == key]
    assert sorted(index.range_candidates(3, True, 5, False)) == [
        i for i in range(60) if keys[i] in (3, 4)
    ]
    assert index.size == sum(key is not None for key in keys)
