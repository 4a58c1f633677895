"""`python -m services.portal --config FILE`: wiring, imported by nobody."""

import asyncio
import contextlib
import os
import sys
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from nano.model.errors import Cancelled
from nano.service import now_ms, ready, run, waiting
from nano.shelf import Shelf
from nano.web import certificate
from nano.web.server import bound, server
from services.portal.app import App
from services.portal.call import Portal
from services.portal.config import Config, check, credential_path
from services.portal.directory import Directory
from services.portal.feed import Feed
from services.portal.first_start import FirstStart
from services.portal.log_files import LogFiles
from services.portal.pages import BUILT, Pages
from services.portal.passwords import Passwords
from services.portal.session_file import SessionFile
from services.portal.sessions import Sessions
from services.portal.upstream import Upstream, read_credential
from services.portal.visible import Owners

LOOK_S = 0.2


async def _written(stopping: asyncio.Event, *files: Path) -> None:
    """Returns when the gateway has written these at its own first start; `Cancelled` once `stopping` is
    set."""
    with waiting(f"the gateway's {' and '.join(map(str, files))}"):
        while not all(file.exists() for file in files):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), LOOK_S)
                raise Cancelled("asked to stop while it waited for the gateway's credential")


async def serve(config: Config, stopping: asyncio.Event) -> None:
    check(config)
    data = Path(config.paths.data)
    pages = Pages(Path(config.pages) if config.pages else BUILT)
    keys = credential_path(config.gateway_credentials, os.environ)
    trusted = credential_path(config.gateway_certificate, os.environ) if config.gateway_certificate else None
    await _written(stopping, keys, *([trusted] if trusted else []))
    key = read_credential(keys, config.gateway_credential)
    tls = None
    if config.tls:
        tls = certificate.context(*certificate.files(data / "tls", config.names, datetime.now(UTC)))
    async with AsyncExitStack() as up:
        listener = up.enter_context(bound(config.listen, config.port))
        shelf = await up.enter_async_context(Shelf.open(data / "shelf", Directory))
        log = LogFiles(data / "log", time.time_ns)
        up.callback(log.close)
        await log.open()
        first_start = FirstStart(data)
        if config.first_start_code and not shelf.book.is_ready:
            first_start.prepare()
        upstream = await up.enter_async_context(Upstream(config.gateway, key, str(trusted or "")))
        feed = Feed(upstream, Owners(), time.monotonic)
        passwords = Passwords()
        up.callback(passwords.close)
        sessions = Sessions()
        session_file = SessionFile(data, sessions, time.monotonic, now_ms)
        up.callback(session_file.close)
        session_file.read()
        portal = Portal(
            *(config, shelf, log, upstream, feed, passwords, first_start),
            *(sessions, session_file, time.monotonic),
        )
        jobs = await up.enter_async_context(asyncio.TaskGroup())
        up.callback(jobs.create_task(feed.run(), name="feed").cancel)
        serving = server(App(portal, pages), tls)
        answering = jobs.create_task(serving.serve([listener]), name="pages")
        await serving.up.wait()
        ready(f"pages on {config.listen}, TCP {config.port}")
        await stopping.wait()
        portal.is_stopping = True
        feed.bell.ring()  # live streams end now
        serving.stop()
        await answering


if __name__ == "__main__":
    sys.exit(run("portal", Config, serve))
