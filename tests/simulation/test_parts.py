"""The simulated disk, clock and event loop keep their word, and no more than that."""

from __future__ import annotations

import asyncio
import pickle
from collections import Counter
from random import Random

import pytest

from actors.errors import DiskFailure
from tests.simulation.disk import SECTOR, PowerCut, SimulatedDisk, Trap
from tests.simulation.loop import SimulatedLoop
from tests.simulation.world import US, Clock, Scheduler, SimulationFailure

# --- Disk -----------------------------------------------------------------------------------------


def disk(seed: int = 1) -> SimulatedDisk:
    return SimulatedDisk(Random(seed), Counter())


def test_what_was_synced_survives_a_power_cut() -> None:
    for seed in range(50):
        there = disk(seed)
        file = there.append("a/b")
        file.write(b"x" * 700)
        file.sync()
        file.write(b"y" * 2_000)
        there.power_cut()
        found = there.read("a/b")
        assert found[:700] == b"x" * 700
        assert len(found) <= 2_700


def test_unsynced_data_comes_back_whole_cut_holed_or_not_at_all() -> None:
    seen = set()
    for seed in range(100):
        there = disk(seed)
        file = there.append("f")
        file.write(b"x" * 10 * SECTOR)
        there.power_cut()
        found = there.read("f")
        if not found:
            seen.add("nothing")
        elif found == b"x" * 10 * SECTOR:
            seen.add("all")
        elif set(found) == {ord("x")}:
            seen.add("beginning")
        else:
            seen.add("holes")
            for start in range(0, len(found), SECTOR):
                assert len(set(found[start : start + SECTOR])) == 1  # a sector is written or not
    assert seen == {"nothing", "all", "beginning", "holes"}


def test_what_a_failed_sync_gave_up_never_comes_back() -> None:
    for seed in range(20):
        there = disk(seed)
        file = there.append("d/f")
        file.write(b"old")
        file.sync()
        there.trap = Trap("eio", ("sync",), 1)
        file.write(b"lost")
        with pytest.raises(DiskFailure):
            file.sync()
        assert there.read("d/f") == b"oldlost"  # the page cache says so
        file.write(b"new")
        file.sync()
        assert not there.all_synced("d")
        there.power_cut()
        assert there.read("d/f") == b"old\0\0\0\0new"


def test_the_death_of_a_process_loses_nothing() -> None:
    there = disk()
    there.append("f").write(b"data")
    assert there.append("f").size() == 4
    assert there.read("f") == b"data"


def test_names_survive_when_their_call_has_returned() -> None:
    there = disk()
    there.append("d/a").sync()
    there.rename("d/a", "d/b")
    there.append("d/c")
    there.remove("d/c")
    there.power_cut()
    assert there.names("d") == ["b"]


def test_a_small_file_is_replaced_or_not() -> None:
    left = set()
    for operation in range(1, 30):
        there = disk(operation)
        there.replace("f", b"before")
        there.trap = Trap("power", ("create", "write", "sync", "rename", "remove"), operation)
        try:
            there.replace("f", b"after")
        except PowerCut:
            pass
        there.power_cut()
        left.add(there.read("f"))
    assert left == {b"before", b"after"}


def test_a_trap_is_sprung_once_at_its_operation() -> None:
    there = disk()
    there.trap = Trap("enospc", ("write",), 2)
    file = there.append("f")
    file.write(b"one")
    file.sync()
    with pytest.raises(DiskFailure, match="enospc"):
        file.write(b"two")
    file.write(b"three")
    assert there.count["disk enospc"] == 1


def test_a_full_disk_takes_no_more() -> None:
    there = disk()
    file = there.append("f")
    there.full = True
    with pytest.raises(DiskFailure, match="enospc"):
        file.write(b"data")
    there.full = False
    file.write(b"data")


def test_a_flipped_bit_is_one_bit() -> None:
    there = disk()
    file = there.append("f")
    file.write(bytes(100))
    file.sync()
    offset = there.flip("f")
    found = there.read("f")
    assert found[offset].bit_count() == 1
    assert sum(byte.bit_count() for byte in found) == 1


# --- Time -----------------------------------------------------------------------------------------


def test_events_come_in_order_of_time_and_then_of_asking() -> None:
    scheduler = Scheduler()
    seen: list[str] = []
    scheduler.after(20, lambda: seen.append("late"))
    scheduler.after(10, lambda: seen.append("first"))
    scheduler.after(10, lambda: seen.append("second"))
    scheduler.run(scheduler.now_us + 15)
    assert seen == ["first", "second"]
    scheduler.run(scheduler.now_us + 15)
    assert seen == ["first", "second", "late"]


@pytest.mark.parametrize("rate", [700, 999, 1_000, 1_300])
def test_a_clock_shows_a_time_no_earlier_than_it_says(rate: int) -> None:
    scheduler = Scheduler()
    clock = Clock(scheduler, 5 * US)
    clock.set_rate(rate)
    for ahead in (1, 7, 999, 123_457):
        wanted = clock.now_us() + ahead
        when = clock.when(wanted)
        assert when is not None
        scheduler.run(when - 1)
        assert clock.now_us() < wanted
        scheduler.run(when)
        assert clock.now_us() >= wanted


def test_a_clock_stands_still_jumps_and_never_goes_back() -> None:
    scheduler = Scheduler()
    clock = Clock(scheduler, US)
    before = clock.now_us()
    clock.set_rate(0)
    scheduler.run(scheduler.now_us + US)
    assert clock.now_us() == before
    assert clock.when(before + 1) is None
    clock.set_rate(1_000)
    clock.jump(3 * US)
    assert clock.now_us() == before + 3 * US


def test_a_failure_travels_between_processes() -> None:
    sent = SimulationFailure("liveness", "Convergence", "no leader")
    got = pickle.loads(pickle.dumps(sent))
    assert (got.kind, got.check, got.text) == ("liveness", "Convergence", "no leader")
    assert str(got) == str(sent)


def test_a_run_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.simulation.world.EVENTS_MAX", 100)
    scheduler = Scheduler()

    def again() -> None:
        scheduler.after(0, again)

    again()
    with pytest.raises(SimulationFailure, match="Events"):
        scheduler.run(scheduler.now_us)


# --- Event loop -----------------------------------------------------------------------------------


def test_coroutines_run_in_virtual_time() -> None:
    scheduler = Scheduler()
    loop = SimulatedLoop(scheduler)
    seen: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((name, round(loop.time(), 3)))

    async def impatient() -> None:
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.5)
        except TimeoutError:
            seen.append(("timed out", round(loop.time(), 3)))

    loop.create_task(sleeper("long", 3600.0))
    loop.create_task(sleeper("short", 0.25))
    loop.create_task(impatient())
    scheduler.run(scheduler.now_us + 4_000 * US)
    assert seen == [("short", 1.25), ("timed out", 1.5), ("long", 3601.0)]


def test_an_exception_in_a_callback_ends_the_run() -> None:
    scheduler = Scheduler()
    loop = SimulatedLoop(scheduler)
    loop.call_soon(lambda: 1 / 0)
    with pytest.raises(SimulationFailure, match="ZeroDivisionError"):
        scheduler.run(scheduler.now_us)
