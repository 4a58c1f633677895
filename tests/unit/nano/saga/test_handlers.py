import asyncio
from contextvars import copy_context

from nano.model.ids import TaskId
from nano.saga.handlers import Errand, errand
from tests.support.virtual_time import virtually


@virtually
async def test_a_job_that_a_handler_starts_works_on_the_same_errand() -> None:
    seen: list[Errand] = []

    async def helper() -> None:
        seen.append(errand.get())

    async def handler() -> None:
        errand.set(Errand(TaskId("t"), "step", 5))
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(helper())

    async with asyncio.TaskGroup() as jobs:
        jobs.create_task(handler())
    assert seen == [Errand(TaskId("t"), "step", 5)]
    assert errand not in copy_context()
