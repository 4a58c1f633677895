"""A driver's events: nothing is missed between subscribing and listening, and nobody holds up the others."""

import asyncio
import gc

from nano.model.ids import InstanceId
from services.cell.events import Events
from services.cell.hypervisor import Event, Gone, Resync


def gone(number: int) -> Gone:
    return Gone(InstanceId(str(number)))


async def test_whoever_subscribed_hears_all_from_then_on_until_the_end() -> None:
    events = Events()
    events.publish(gone(0))
    first, second = events.subscribe(), events.subscribe()
    events.publish(gone(1))
    events.publish(gone(2))
    events.close()
    for each in (first, second):
        assert [event async for event in each] == [gone(1), gone(2)]
        assert [event async for event in each] == []  # the end stays the end


async def test_one_that_is_too_slow_is_told_to_read_everything_again() -> None:
    events = Events(backlog=2)
    slow, quick = events.subscribe(), events.subscribe()
    heard: list[Event] = []
    for number in range(4):
        events.publish(gone(number))
        heard.append(await anext(quick))
    assert heard == [gone(number) for number in range(4)]
    assert [await anext(slow), await anext(slow)] == [Resync(), gone(3)]


async def test_a_wait_that_was_given_up_loses_nothing() -> None:
    events = Events()
    listener = events.subscribe()
    waiting = asyncio.ensure_future(anext(listener))
    await asyncio.sleep(0)
    waiting.cancel()
    events.publish(gone(1))
    assert await anext(listener) == gone(1)


def test_whom_nobody_holds_costs_nothing() -> None:
    events = Events()
    events.subscribe()
    gc.collect()
    assert not list(events._consumers)
