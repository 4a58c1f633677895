"""A portal in this process, in front of a whole zone, and browsers that are only as clever as cookies make
them."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec

from nano.shelf import Shelf
from nano.web import certificate
from nano.web.server import bound, server
from services.portal.app import App
from services.portal.call import Portal
from services.portal.config import Config
from services.portal.directory import Directory
from services.portal.feed import Feed
from services.portal.first_start import FILE, FirstStart
from services.portal.log_files import LogFiles
from services.portal.pages import Pages
from services.portal.passwords import Passwords
from services.portal.session_file import SessionFile
from services.portal.sessions import Sessions
from services.portal.upstream import Upstream
from services.portal.visible import Owners
from tests.support.zone import Zone

PASSWORD = "Correct1horse"
PROBLEM = {"accept": "application/problem+json"}
PATIENCE_S = 10.0


@dataclass
class Clock:
    """The portal's monotonic clock, and what was added to it."""

    added_s: float = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.added_s

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + int(self.added_s * 1000)


@dataclass
class Browser:
    """One person's cookies."""

    client: httpx.AsyncClient
    headers: dict[str, str] = field(default_factory=dict)

    async def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """A call below `/api/v1`, as the pages make it."""
        content = b"" if body is None else msgspec.json.encode(body)
        given = PROBLEM | self.headers | dict(headers or {})
        return await self.client.request(method, f"/api/v1{path}", content=content, headers=given)

    async def data(self, method: str, path: str, body: object = None) -> Any:
        answer = await self.ask(method, path, body)
        assert answer.is_success, answer.text
        return answer.json()["data"]

    async def refused(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The problem of a call that fails."""
        answer = await self.ask(method, path, body)
        assert answer.status_code >= 400, answer.text
        problem: dict[str, Any] = answer.json()
        assert problem["status"] == answer.status_code
        return problem

    async def log_in(self, user: str, password: str = PASSWORD) -> dict[str, Any]:
        answer = await self.data("POST", "/sessions/", {"user": user, "password": password})
        assert isinstance(answer, dict)
        return answer


@dataclass
class Desk:
    """A portal and what a test may turn of it."""

    portal: Portal
    url: str
    trust: ssl.SSLContext
    clock: Clock
    folder: Path
    zone: Zone
    up: AsyncExitStack

    async def browser(self, user: str = "", **headers: str) -> Browser:
        """A new one, logged in when a user is named."""
        client = await self.up.enter_async_context(httpx.AsyncClient(base_url=self.url, verify=self.trust))
        browser = Browser(client, headers)
        if user:
            await browser.log_in(user)
        return browser

    @property
    def code(self) -> str:
        return (self.folder / "portal" / FILE).read_text().strip()

    async def first_user(self, name: str = "admin", *, group: str = "admin") -> Browser:
        """Sets the portal up; the first user, logged in."""
        browser = await self.browser()
        first = {"user": name, "password": PASSWORD, "group": group, "code": self.code}
        await browser.data("POST", "/system/", first)
        await browser.log_in(name)
        return browser

    async def user(self, admin: Browser, name: str, group: str, *menus: str) -> Browser:
        """Another user, with a group and a role of their own where those are not there yet."""
        role = f"of-{group}"
        if role not in await admin.data("GET", "/roles/"):
            await admin.data("POST", f"/roles/{role}", {"menu": list(menus)})
            await admin.data("POST", f"/user_groups/{group}", {"display": group, "role": [role]})
        await admin.data("POST", f"/users/{name}", {"password": PASSWORD})
        await admin.data("POST", f"/user_groups/{group}/members/{name}", {})
        return await self.browser(name)

    async def until(self, condition: Any) -> None:
        """Until the portal's feed has brought something about."""
        assert await self.portal.feed.bell.until(condition, PATIENCE_S)


@contextlib.asynccontextmanager
async def portal(folder: Path, zone: Zone, config: Config | None = None) -> AsyncIterator[Desk]:
    """`folder` is that of the zone: its gateway's certificate is trusted."""
    data, clock = folder / "portal", Clock()
    pages = folder / "pages"
    (pages / "assets").mkdir(parents=True)
    (pages / "index.html").write_text("<!doctype html><title>Nano</title>")
    (pages / "assets" / "a-1.js").write_text("export {}")
    async with AsyncExitStack() as up:
        shelf = await up.enter_async_context(Shelf.open(data / "shelf", Directory))
        log = LogFiles(data / "log", time.time_ns)
        up.callback(log.close)
        await log.open()
        first_start = FirstStart(data)
        first_start.prepare()
        url = str(zone.client.base_url)
        upstream = await up.enter_async_context(
            Upstream(url, zone.credential, str(folder / "tls" / "certificate.pem"))
        )
        feed = Feed(upstream, Owners(), clock)
        passwords = Passwords()
        up.callback(passwords.close)
        sessions = Sessions()
        session_file = SessionFile(data, sessions, clock, clock.now_ms)
        up.callback(session_file.close)
        session_file.read()
        made = Portal(
            *(config or Config(), shelf, log, upstream, feed, passwords, first_start),
            *(sessions, session_file, clock),
        )
        jobs = await up.enter_async_context(asyncio.TaskGroup())
        up.callback(jobs.create_task(feed.run()).cancel)
        pair = certificate.files(data / "tls", [], datetime.now(UTC))
        listener = up.enter_context(bound("127.0.0.1", 0))
        serving = server(App(made, Pages(pages)), certificate.context(*pair))
        answering = jobs.create_task(serving.serve([listener]))
        await serving.up.wait()
        trust = ssl.create_default_context(cafile=str(pair[0]))
        address = f"https://127.0.0.1:{listener.getsockname()[1]}"
        async with AsyncExitStack() as browsers:
            yield Desk(made, address, trust, clock, folder, zone, browsers)
        made.is_stopping = True
        feed.bell.ring()
        serving.stop()
        await answering
