"""`python -m services.imagestore --config FILE`: wiring, imported by nobody."""

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from nano.joining import joined
from nano.model.peers import Role
from nano.saga.callee import Callee
from nano.service import now_ms, ready, run
from nano.shelf import Shelf
from nano.steps import STEP_ROLES, StepsRpc
from services.imagestore.catalog import Catalog
from services.imagestore.config import Config
from services.imagestore.files import ImageFiles
from services.imagestore.rpc import ROLES, ImageStoreRpc
from services.imagestore.steps import offer
from services.imagestore.transfer import BULK_ROLES, Transfer


async def serve(config: Config, stopping: asyncio.Event) -> None:
    data = Path(config.paths.data)
    async with AsyncExitStack() as up:
        shelf = await up.enter_async_context(Shelf.open(data / "shelf", Catalog))
        files = ImageFiles(data / "images")
        up.callback(files.close)
        transfer = Transfer(shelf, files, now_ms)
        await transfer.settle()
        callee = Callee(shelf)
        offer(callee)
        jobs = await up.enter_async_context(asyncio.TaskGroup())
        for name, job in (("callee", callee.run()), ("tidy", transfer.tidy())):
            up.callback(jobs.create_task(job, name=name).cancel)
        fabric = await up.enter_async_context(
            joined(config.fabric, Role.IMAGESTORE, config.id, data / "identity", stopping)
        )
        fabric.serve([ImageStoreRpc(shelf, transfer, now_ms), StepsRpc(callee)], ROLES | STEP_ROLES)
        fabric.serve_bulk(transfer, BULK_ROLES)
        ready("keeps images")
        await stopping.wait()


if __name__ == "__main__":
    sys.exit(run("imagestore", Config, serve))
