"""`python -m services.gateway --config FILE`: wiring, imported by nobody."""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from nano.bell import Bell
from nano.contracts.nano import v1
from nano.joining import joined
from nano.model.peers import Role
from nano.service import now_ms, ready, run
from nano.web import certificate
from nano.web.server import bound, server
from services.gateway import credentials
from services.gateway.app import App
from services.gateway.call import Gateway, Services
from services.gateway.config import Config, check
from services.gateway.displays import CellDisplays
from services.gateway.feed import Feed, feed_from
from services.gateway.keyring import Keyring
from services.gateway.transfer import BulkImages
from services.gateway.view import View


async def serve(config: Config, stopping: asyncio.Event) -> None:
    check(config)
    data = Path(config.paths.data)
    keys = credentials.load(
        Path(config.credentials) if config.credentials else data / credentials.FILE, config.port
    )
    tls = None
    if config.tls:
        tls = certificate.context(*certificate.files(data / "tls", config.names, datetime.now(UTC)))
    async with AsyncExitStack() as up:
        listener = up.enter_context(bound(config.listen, config.port))
        fabric = await up.enter_async_context(
            joined(config.fabric, Role.GATEWAY, config.id, data / "identity", stopping)
        )
        services = Services(
            v1.SchedulerStub(fabric.channel(Role.SCHEDULER)),
            v1.ImageStoreStub(fabric.channel(Role.IMAGESTORE)),
            v1.AddressPoolsStub(fabric.channel(Role.ADDRESSPOOL)),
            BulkImages(fabric.bulk(Role.IMAGESTORE)),
            CellDisplays(fabric),
            v1.AdmissionsStub(fabric.channel(Role.SCHEDULER)),
        )
        gateway = Gateway(View(), Bell(), services, time.monotonic, now_ms, started_ms=now_ms())
        jobs = await up.enter_async_context(asyncio.TaskGroup())
        feed = Feed(gateway.view, gateway.bell, time.monotonic, sampled=gateway.sampled)
        up.callback(jobs.create_task(feed_from(fabric, feed), name="feed").cancel)
        serving = server(App(gateway, Keyring(keys)), tls)
        answering = jobs.create_task(serving.serve([listener]), name="rest")
        await serving.up.wait()
        scheme = "http" if tls is None else "https"
        ready(f"answers REST at {scheme}://{config.listen}:{config.port}/api/v1/")
        await stopping.wait()
        gateway.is_stopping = True
        gateway.bell.ring()  # event streams end now
        gateway.sampled.ring()
        serving.stop()
        await answering


if __name__ == "__main__":
    sys.exit(run("gateway", Config, serve))
