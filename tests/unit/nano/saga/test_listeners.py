from nano.model.action import Outcome, Progress
from nano.saga.listeners import Listener, Listeners
from tests.support.virtual_time import virtually


def done(number: int) -> Outcome:
    return Outcome(f"task-{number}", "step", Progress.DONE)


async def read(listener: Listener) -> list[Outcome]:
    return [outcome async for outcome in listener]


@virtually
async def test_a_listener_hears_everything_from_the_moment_it_was_made() -> None:
    listeners = Listeners()
    listeners.put(done(0))
    listener = listeners.listen()
    listeners.put(done(1))
    listeners.put(done(2))
    listeners.end()
    assert await read(listener) == [done(1), done(2)]


@virtually
async def test_a_listener_that_is_too_slow_is_ended_and_the_others_are_not() -> None:
    listeners = Listeners(queue_limit=4)
    slow, quick = listeners.listen(), listeners.listen()
    heard = []
    for number in range(6):
        listeners.put(done(number))
        heard.append(await anext(quick))
    assert heard == [done(number) for number in range(6)]
    assert await read(slow) == [done(number) for number in range(4)]


@virtually
async def test_progress_is_left_out_when_its_reader_is_behind() -> None:
    listeners = Listeners(queue_limit=4)
    listener = listeners.listen()
    for percent in range(50):
        listeners.put(Outcome("task", "step", Progress.BEGUN, percent))
    listeners.put(done(1))
    listeners.leave(listener)
    heard = await read(listener)
    assert [outcome.percent for outcome in heard] == [0, 1, 2, 0]
    assert heard[-1] == done(1)


@virtually
async def test_who_left_hears_no_more() -> None:
    listeners = Listeners()
    listener = listeners.listen()
    listeners.leave(listener)
    listeners.leave(listener)
    listeners.put(done(1))
    assert await read(listener) == []
