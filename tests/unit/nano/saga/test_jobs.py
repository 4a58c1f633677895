import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from nano.model.ids import TaskId
from nano.saga.jobs import Jobs, Key
from tests.support.virtual_time import virtually


def key(number: int) -> Key:
    return TaskId(f"t{number}"), "step"


class Work:
    """Takes a second each; says what began and what ended, when, and how."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.at_once = 0
        self.most = 0

    async def __call__(self, one: Key) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await asyncio.sleep(1)
            self.log.append(f"{asyncio.get_running_loop().time():g} {one[0]}")
        except asyncio.CancelledError:
            self.log.append(f"{asyncio.get_running_loop().time():g} {one[0]} cancelled")
            raise
        finally:
            self.at_once -= 1


@asynccontextmanager
async def running(jobs: Jobs) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        job = group.create_task(jobs.run())
        yield
        job.cancel()
        with suppress(asyncio.CancelledError):
            await job


@virtually
async def test_no_more_run_at_once_than_allowed_and_in_order() -> None:
    work = Work()
    jobs = Jobs(work, at_once=2)
    for number in range(4):
        jobs.add(key(number))
    jobs.add_first([key(8), key(9)])
    assert jobs.waiting == 6
    async with running(jobs):
        await asyncio.sleep(10)
    assert work.log == ["1 t8", "1 t9", "2 t0", "2 t1", "3 t2", "3 t3"]
    assert work.most == 2


@virtually
async def test_one_key_never_runs_twice_at_once() -> None:
    work = Work()
    jobs = Jobs(work, at_once=4)
    async with running(jobs):
        jobs.add(key(1))
        await asyncio.sleep(0.5)
        jobs.add(key(1))
        jobs.add(key(1))
        await asyncio.sleep(10)
    assert work.log == ["1 t1", "2 t1"]
    assert work.most == 1


@virtually
async def test_what_is_stopped_ends_and_what_is_added_then_follows_it() -> None:
    work = Work()
    jobs = Jobs(work, at_once=1)
    async with running(jobs):
        for number in (1, 2, 3):
            jobs.add(key(number))
        await asyncio.sleep(0.5)
        jobs.stop(key(1))
        jobs.stop(key(2))
        jobs.add(key(1))
        await asyncio.sleep(10)
    assert work.log == ["0.5 t1 cancelled", "1.5 t3", "2.5 t1"]
