"""`python -m services.addresspool --config FILE`: wiring, imported by nobody."""

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
from services.addresspool.config import Config
from services.addresspool.ledger import Ledger
from services.addresspool.rpc import ROLES, AddressPoolsRpc
from services.addresspool.steps import offer


async def serve(config: Config, stopping: asyncio.Event) -> None:
    data = Path(config.paths.data)
    async with AsyncExitStack() as up:
        shelf = await up.enter_async_context(Shelf.open(data / "shelf", Ledger))
        callee = Callee(shelf)
        offer(callee, now_ms)
        jobs = await up.enter_async_context(asyncio.TaskGroup())
        up.callback(jobs.create_task(callee.run(), name="callee").cancel)
        fabric = await up.enter_async_context(
            joined(config.fabric, Role.ADDRESSPOOL, config.id, data / "identity", stopping)
        )
        fabric.serve([AddressPoolsRpc(shelf), StepsRpc(callee)], ROLES | STEP_ROLES)
        ready("leases addresses")
        await stopping.wait()


if __name__ == "__main__":
    sys.exit(run("addresspool", Config, serve))
