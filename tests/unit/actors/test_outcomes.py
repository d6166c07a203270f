"""The memory of committed transactions: found, forgotten or absent, and never the wrong word."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import outcomes
from actors.commands import TransactionId
from actors.outcomes import OutcomeTable

FORGOTTEN = False

TRANSACTIONS = st.lists(
    st.builds(
        TransactionId,
        gateway=st.integers(1, 6),
        id=st.integers(1, 40),
        acknowledged=st.integers(0, 30),
    ),
    max_size=60,
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "GATEWAYS_MAX", 4)
    monkeypatch.setattr(outcomes, "IDS_PER_GATEWAY_MAX", 8)
    monkeypatch.setattr(outcomes, "IDS_MAX", 20)


def record(table: OutcomeTable, gateway: int, identity: int, index: int, floor: int = 0) -> None:
    table.record(TransactionId(gateway, identity, floor), index)


def total(table: OutcomeTable) -> int:
    return sum(len(gateway.committed) for gateway in table._gateways.values())


def test_what_was_recorded_is_found() -> None:
    table = OutcomeTable()
    record(table, 5, 3, index=10)
    record(table, 5, 2, index=11)
    record(table, 6, 3, index=12)
    assert table.find(5, 3) == 10
    assert table.find(5, 2) == 11
    assert table.find(6, 3) == 12
    assert table.find(5, 4) is None
    assert table.find(7, 3) is None


def test_what_was_acknowledged_is_forgotten() -> None:
    table = OutcomeTable()
    for identity in range(1, 6):
        record(table, 5, identity, index=10 + identity)
    record(table, 5, 6, index=16, floor=4)
    assert [table.find(5, identity) for identity in range(1, 8)] == [
        FORGOTTEN,
        FORGOTTEN,
        FORGOTTEN,
        14,
        15,
        16,
        None,
    ]
    assert total(table) == 3


def test_an_acknowledgement_never_falls_back() -> None:
    table = OutcomeTable()
    record(table, 5, 9, index=1, floor=8)
    record(table, 5, 10, index=2, floor=3)
    assert table.find(5, 7) is FORGOTTEN
    assert table.find(5, 9) == 1


@pytest.mark.usefixtures("small")
def test_ids_of_one_gateway_are_bounded_and_the_oldest_go() -> None:
    table = OutcomeTable()
    for identity in range(1, 13):
        record(table, 5, identity, index=identity)
    assert total(table) == 8
    assert [table.find(5, i) for i in range(1, 5)] == [FORGOTTEN] * 4
    assert [table.find(5, i) for i in range(5, 13)] == list(range(5, 13))


@pytest.mark.usefixtures("small")
def test_a_new_gateway_takes_the_place_of_the_one_heard_of_least_recently() -> None:
    table = OutcomeTable()
    for gateway in (1, 2, 3, 4):
        record(table, gateway, 1, index=gateway)
    record(table, 1, 2, index=5)
    record(table, 9, 1, index=6)
    assert table.find(9, 1) == 6
    assert table.find(1, 2) == 5
    assert [table.find(gateway, 1) for gateway in (1, 3, 4)] == [1, 3, 4]
    assert len(table._gateways) == 4


@pytest.mark.usefixtures("small")
def test_a_forgotten_gateway_is_not_told_that_its_write_is_absent() -> None:
    table = OutcomeTable()
    for gateway in range(1, 5):
        record(table, gateway, 1, index=gateway)
    assert table.find(77, 1) is None
    record(table, 5, 1, index=5)
    assert table.find(1, 1) is FORGOTTEN
    assert OutcomeTable.decode(table.encode()).find(1, 1) is FORGOTTEN


@pytest.mark.usefixtures("small")
def test_ids_of_all_gateways_together_are_bounded() -> None:
    table = OutcomeTable()
    index = 0
    for gateway in (1, 2, 3, 4):
        for identity in range(1, 7):
            index += 1
            record(table, gateway, identity, index)
            assert total(table) <= 20
    assert [table.find(1, i) for i in range(1, 7)] == [FORGOTTEN] * 6
    assert [table.find(2, i) for i in range(1, 7)] == list(range(7, 13))
    record(table, 1, 7, index=99)
    assert table.find(1, 7) == 99


@pytest.mark.usefixtures("small")
@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 12)), max_size=60))
def test_bounds_hold_and_no_committed_id_is_called_absent(log: list[tuple[int, int, int]]) -> None:
    table = OutcomeTable()
    last: dict[tuple[int, int], int] = {}
    newest: dict[int, int] = {}
    for index, (gateway, step, lag) in enumerate(log, 1):
        newest[gateway] = identity = newest.get(gateway, 0) + step
        transaction = TransactionId(gateway, identity, max(0, identity - lag))
        table.record(transaction, index)
        last[(transaction.gateway, transaction.id)] = index
        assert total(table) == table._ids <= 20
        assert len(table._gateways) <= 4
        for (gateway, identity), committed_at in last.items():
            found = table.find(gateway, identity)
            assert found is FORGOTTEN or found == committed_at


@pytest.mark.usefixtures("small")
@settings(max_examples=200, deadline=None)
@given(TRANSACTIONS, st.integers(0, 60))
def test_the_same_log_gives_the_same_table_whatever_the_snapshot(
    log: list[TransactionId], snapshot_at: int
) -> None:
    whole, restored = OutcomeTable(), OutcomeTable()
    for index, transaction in enumerate(log, 1):
        if index == snapshot_at:
            restored = OutcomeTable.decode(restored.encode())
        whole.record(transaction, index)
        restored.record(transaction, index)
    assert restored.encode() == whole.encode()
    assert total(restored) == restored._ids
    assert OutcomeTable.decode(whole.encode()).encode() == whole.encode()
    for gateway in range(1, 8):
        for identity in range(1, 42):
            assert restored.find(gateway, identity) == whole.find(gateway, identity)


def test_an_empty_table_is_encoded() -> None:
    table = OutcomeTable.decode(OutcomeTable().encode())
    assert table.find(1, 1) is None
