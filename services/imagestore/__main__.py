"""`python -m services.imagestore --config FILE`: wiring, imported by nobody."""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

from nano.fabric.enrolment import enrol
from nano.fabric.fabric import Fabric
from nano.model.action import PinImage
from nano.model.peers import Role
from nano.saga.callee import Callee
from nano.saga.handlers import errand
from nano.service import ready, run
from nano.shelf import Shelf
from nano.steps import STEP_ROLES, StepsRpc
from services.imagestore.catalog import Catalog
from services.imagestore.config import Config
from services.imagestore.files import ImageFiles
from services.imagestore.rpc import ROLES, ImageStoreRpc
from services.imagestore.transfer import BULK_ROLES, Transfer


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def serve(config: Config, stopping: asyncio.Event) -> None:
    data = Path(config.paths.data)
    async with AsyncExitStack() as up:
        shelf = await up.enter_async_context(Shelf.open(data / "shelf", Catalog))
        files = ImageFiles(data / "images")
        up.callback(files.close)
        callee = Callee(shelf)
        callee.immediate(
            PinImage,
            do=lambda action, book: book.pin(action),
            undo=lambda _action, _result, book: book.unpin(errand.get().task),
        )
        callee.when_forgotten(lambda task, book: book.unpin(task))
        transfer = Transfer(shelf, files, now_ms)
        await transfer.settle()
        jobs = await up.enter_async_context(asyncio.TaskGroup())
        callee_job = jobs.create_task(callee.run(), name="callee")
        up.callback(callee_job.cancel)


if __name__ == "__main__":
    sys.exit(run("imagestore", Config, serve))
