"""A whole zone in one process: real books, tasks and a simulated cell, behind a real gateway.

There is no fabric between them: the gateway's stubs are the services' own handlers, and tasks reach their
callees by a call. REST is spoken over TLS on loopback.
"""

import asyncio
import contextlib
import hashlib
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import msgspec

from nano import signature
from nano.bell import Bell
from nano.contracts.nano import v1
from nano.fabric.bulk.bodies import BulkRequest
from nano.fabric.calls.caller import Caller, answering
from nano.fabric.identity.authority import Authority
from nano.model.action import Action, Outcome
from nano.model.errors import Unreachable
from nano.model.ids import CellId, ImageId, InstanceId, PoolName, TaskId
from nano.model.peers import Peer, Role
from nano.model.pool import Capabilities, Pool, Presence, VirtType
from nano.relay import End
from nano.saga.callee import Callee
from nano.saga.engine import Engine
from nano.saga.targets import Target
from nano.shelf import Shelf
from nano.web import certificate
from nano.web.keys import Credential
from nano.web.server import bound, server
from services.addresspool import steps as address_steps
from services.addresspool.ledger import Ledger
from services.addresspool.rpc import AddressPoolsRpc
from services.cell.hypervisor import Display, Hypervisor
from services.gateway.app import App
from services.gateway.call import Gateway, Services
from services.gateway.cursor import Book
from services.gateway.feed import Feed
from services.gateway.keyring import Keyring, new_credential
from services.gateway.view import View
from services.imagestore import steps as image_steps
from services.imagestore.catalog import Catalog
from services.imagestore.files import ImageFiles
from services.imagestore.rpc import ImageStoreRpc
from services.imagestore.transfer import Transfer
from services.scheduler.admissions import AdmissionsRpc
from services.scheduler.inventory import Inventory, PoolPut, TemplatePut
from services.scheduler.invitations import Invitations
from services.scheduler.rpc import SchedulerRpc
from services.scheduler.samples import Samples
from services.scheduler.tasks import SAGAS
from services.scheduler.templates import defaults
from tests.support.cell import CellRig, cell

CELL = CellId("Cell_001122334455")
GIB = 1 << 30
PATIENCE_S = 10.0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Handlers:
    """A service's own handlers in the place of a stub; while `is_cut` nobody answers."""

    def __init__(self, handlers: object) -> None:
        self._handlers = handlers
        self.is_cut = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self.is_cut:
            raise Unreachable(f"{type(self._handlers).__name__} is not there", retry_after_s=1.0)
        handler = getattr(self._handlers, name)
        return lambda message, **_limits: handler(message)


@dataclass
class LocalDisplays:
    """Displays of the one cell without a wire: once `broken` they are not opened, and what is open breaks."""

    hypervisor: Hypervisor
    broken: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception = Unreachable("the link to the cell was lost")  # noqa: RUF009 - raised, never changed
    opened: list["LocalDisplay"] = field(default_factory=list)

    def break_off(self, error: Exception | None = None) -> None:
        self.error = error or self.error
        self.broken.set()

    @contextlib.asynccontextmanager
    async def open(self, _cell: CellId, instance: InstanceId) -> AsyncIterator[End]:
        if self.broken.is_set():
            raise self.error
        display = LocalDisplay(await self.hypervisor.open_display(instance), self)
        self.opened.append(display)
        try:
            yield display
        finally:
            display.inner.close()
            display.closed.set()


@dataclass
class LocalDisplay:
    inner: Display
    displays: LocalDisplays
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> bytes:
        async with asyncio.TaskGroup() as jobs:
            found = jobs.create_task(self.inner.receive())
            cut = jobs.create_task(self.displays.broken.wait())
            await asyncio.wait((found, cut), return_when=asyncio.FIRST_COMPLETED)
            for job in (found, cut):
                job.cancel()
        if found.cancelled():
            raise self.displays.error
        return found.result()

    async def send(self, data: bytes) -> bool:
        return await self.inner.send(data)


class Callees:
    """`nano.saga.callees.Callees` without a wire."""

    def __init__(self, by_role: dict[Role, Callee]) -> None:
        self._by_role = by_role
        self.away: set[Role] = set()

    def _at(self, target: Target) -> Callee:
        role = target.role if isinstance(target, Peer) else target
        if role in self.away:
            raise Unreachable(f"{target} is not there")
        return self._by_role[role]

    async def begin(
        self, target: Target, task: TaskId, step: str, action: Action, deadline_ms: int
    ) -> Outcome:
        return await self._at(target).begin(task, step, action, deadline_ms)

    async def undo(self, target: Target, task: TaskId, step: str) -> Outcome:
        return await self._at(target).undo(task, step)

    async def ask(self, target: Target, task: TaskId, step: str) -> Outcome:
        return await self._at(target).ask(task, step)

    async def forget(self, target: Target, tasks: Sequence[TaskId]) -> None:
        await self._at(target).forget(list(tasks))


@dataclass
class LocalImages:
    """Image bytes without a wire, to the gateway and to the cell."""

    transfer: Transfer

    async def put(self, image: ImageId, body: AsyncIterator[bytes]) -> int:
        headers = await self.transfer.put(BulkRequest(f"/images/{image}"), body)
        return int(headers["revision"])

    async def get(self, image: ImageId, version: int, offset: int) -> AsyncGenerator[bytes, None]:
        async for piece in self._read(Peer(Role.GATEWAY, "main"), image, version, offset):
            yield piece

    async def fetch(self, image: ImageId, version: int, offset: int) -> AsyncIterator[bytes]:
        async for piece in self._read(Peer(Role.CELL, CELL), image, version, offset):
            yield piece

    async def _read(self, by: Peer, image: ImageId, version: int, offset: int) -> AsyncIterator[bytes]:
        with answering(Caller(by, None, "")):
            found = await self.transfer.get(BulkRequest(f"/images/{image}/{version}", offset))
        async for piece in found.chunks:
            yield piece

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class Zone:
    """What a test may look at and turn."""

    gateway: Gateway
    credential: Credential
    other: Credential
    """A second one, as good as the first."""
    client: httpx.AsyncClient
    trust: ssl.SSLContext
    """Believes the gateway's certificate and no other."""
    stop: Callable[[], None]
    """Has the gateway stop, as a signal would."""
    scheduler: Shelf[Inventory]
    imagestore: Shelf[Catalog]
    addresspool: Shelf[Ledger]
    cell: CellRig
    stubs: dict[Book, Handlers]
    displays: LocalDisplays
    engine: Engine
    callees: Callees
    feeds: dict[Book, asyncio.Task[None]] = field(default_factory=dict)

    def signed(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> httpx.Request:
        """A request of ours, signed as documented."""
        signed = self.signature(method, target, body, headers=headers)
        return self.client.build_request(method, target, content=body, headers=signed)

    def signature(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        credential: Credential | None = None,
        session: str = "nanoctl",
    ) -> dict[str, str]:
        """All headers of a signed request."""
        credential = credential or self.credential
        headers = {"host": "zone.test", **(headers or {})}
        parts = urlsplit(target)
        path = signature.percent_decode(parts.path.encode())
        digest = signature.body_digest(method, path, body)
        plain = signature.Request(path, parts.query.encode(), headers, digest)
        return headers | signature.sign(
            plain, api_id=credential.id, secret=credential.key, at=datetime.now(UTC), session=session
        )

    async def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """One call below `/api/v1`."""
        content = b"" if body is None else msgspec.json.encode(body)
        return await self.client.send(self.signed(method, f"/api/v1{path}", content, headers))

    async def data(self, method: str, path: str, body: object = None) -> Any:
        """What a call that succeeds answers."""
        answer = await self.ask(method, path, body)
        document = answer.json()
        assert document["error_code"] == 0, document
        return document["data"]

    async def error(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """The number and the text of a call that fails, which an old client gets with status 200."""
        answer = await self.ask(method, path, body)
        document = answer.json()
        assert answer.status_code == 200
        assert document["error_code"] != 0, document
        assert document["data"] == {}
        return document["error_code"], document["message"]

    async def upload(self, kind: str, image: str, content: bytes, *, name: str = "image") -> httpx.Response:
        head = f'--b0und\r\nContent-Disposition: form-data; name="{name}"; filename="i"\r\n\r\n'
        body = head.encode() + content + b"\r\n--b0und--\r\n"
        kinds = {"content-type": "multipart/form-data; boundary=b0und"}
        target = f"/api/v1/{kind}_images/{image}/file/"
        return await self.client.send(self.signed("POST", target, body, kinds))

    async def disk_image(self, content: bytes, name: str = "base") -> str:
        """A disk image with content; gives its id."""
        record = {"name": name, "owner": "admin", "group": "admin"}
        image = await self.data("POST", "/disk_images/", record)
        answer = await self.upload("disk", image["id"], content)
        assert answer.json()["error_code"] == 0, answer.text
        return cast("str", image["id"])

    async def guest(self, name: str = "vm", **more: object) -> str:
        """A guest that is created; gives its id."""
        templates = await self.data("GET", "/templates/")
        wanted = {
            "name": name,
            "owner": "admin",
            "group": "admin",
            "pool": "default",
            "cores": 1,
            "memory": 256 << 20,
            "disks": [GIB],
            "template": templates[0]["id"],
            **more,
        }
        answer = await self.ask("POST", "/guests/", wanted)
        assert answer.status_code == 202, answer.text
        task = TaskId(answer.headers["nano-task"])
        ended = await self.gateway.bell.until(lambda: self.gateway.view.tasks[task].state.ended, PATIENCE_S)
        assert ended, self.gateway.view.tasks[task]
        return cast("str", answer.json()["data"]["id"])

    async def lose_cell(self, presence: Presence = Presence.LOST) -> None:
        """Its host is off, and the gateway knows."""
        self.callees.away.add(Role.CELL)
        self.scheduler.commit(*self.scheduler.book.cell_silent(CELL, presence, now_ms()))
        self.engine.peer_down(Peer(Role.CELL, CELL))
        await self.shown()

    async def find_cell(self) -> None:
        """It is back as it was."""
        self.callees.away.clear()
        self.scheduler.commit(*self.scheduler.book.cell_seen(CELL, "10.9.8.7", now_ms(), None))
        self.engine.peer_up(Peer(Role.CELL, CELL))
        await self.shown()

    async def shown(self) -> None:
        """Until the gateway's replica of the scheduler's book has come to now."""
        revision = self.scheduler.revision
        await self.scheduler.durable()
        assert await self.gateway.bell.until(
            lambda: self.gateway.view.shows(Book.SCHEDULER, revision), PATIENCE_S
        )

    def cut(self, book: Book) -> None:
        """Nobody answers for this book any more."""
        self.stubs[book].is_cut = True
        self.feeds[book].cancel()


@contextlib.asynccontextmanager
async def zone(folder: Path, *, is_fed: bool = True, first_use: bool = False) -> AsyncIterator[Zone]:
    async with AsyncExitStack() as up:
        scheduler = await up.enter_async_context(Shelf.open(folder / "scheduler", Inventory))
        imagestore = await up.enter_async_context(Shelf.open(folder / "imagestore", Catalog))
        addresspool = await up.enter_async_context(Shelf.open(folder / "addresspool", Ledger))
        files = ImageFiles(folder / "images")
        up.callback(files.close)
        transfer = Transfer(imagestore, files, now_ms)
        local = LocalImages(transfer)
        rig = await up.enter_async_context(cell(folder / "cell", images=cast("Any", local)))
        jobs = await up.enter_async_context(asyncio.TaskGroup())

        def job(work: Any) -> asyncio.Task[None]:
            started: asyncio.Task[None] = jobs.create_task(work)
            up.callback(started.cancel)
            return started

        images, addresses = Callee(imagestore), Callee(addresspool)
        image_steps.offer(images)
        address_steps.offer(addresses, now_ms)
        callees = {Role.IMAGESTORE: images, Role.ADDRESSPOOL: addresses, Role.CELL: rig.callee}
        reached = Callees(callees)
        engine = Engine(scheduler, SAGAS, reached, now_ms=now_ms)
        samples = Samples(scheduler.book.usage)
        for role, callee in callees.items():
            peer = Peer(role, CELL if role is Role.CELL else "main")
            job(_hear(engine, peer, callee.outcomes()))
            if role is not Role.CELL:
                job(callee.run())
        job(engine.run())
        _first_start(scheduler, rig)
        stubs = {
            Book.SCHEDULER: Handlers(SchedulerRpc(scheduler, engine, samples, now_ms, first_use=first_use)),
            Book.IMAGESTORE: Handlers(ImageStoreRpc(imagestore, transfer, now_ms)),
            Book.ADDRESSPOOL: Handlers(AddressPoolsRpc(addresspool)),
        }
        displays = LocalDisplays(rig.hypervisor)
        gateway = _gateway(stubs, local, displays, Handlers(_admissions(folder, scheduler, engine)))
        keys = new_credential(), new_credential()
        client, trust, stop = await up.enter_async_context(_served(folder, gateway, keys, jobs))
        made = Zone(
            gateway,
            *keys,
            client,
            trust,
            stop,
            scheduler,
            imagestore,
            addresspool,
            rig,
            stubs,
            displays,
            engine,
            reached,
        )
        if is_fed:
            feed = Feed(gateway.view, gateway.bell, time.monotonic, sampled=gateway.sampled)
            made.feeds = {book: job(_fed(feed, book, stub)) for book, stub in stubs.items()}
        yield made


def _first_start(shelf: Shelf[Inventory], rig: CellRig) -> None:
    """A pool, its templates, and a cell that has given its account."""
    pool = PoolName("default")
    shelf.commit(PoolPut(Pool(pool)), *map(TemplatePut, defaults(now_ms())))
    shelf.commit(*shelf.book.cell_seen(CELL, "10.9.8.7", now_ms(), pool))
    can = Capabilities(VirtType.SIMULATED, 8, 32 * GIB, 500 * GIB)
    shelf.commit(*shelf.book.account(CELL, rig.shelf.incarnation, can, [], now_ms()))


async def _hear(engine: Engine, peer: Peer, outcomes: AsyncIterator[Outcome]) -> None:
    engine.peer_up(peer)
    async for outcome in outcomes:
        engine.outcome(peer, outcome)


async def _fed(feed: Feed, book: Book, stub: Handlers) -> None:
    await feed.follow(book, stub.watch)


def _admissions(folder: Path, shelf: Shelf[Inventory], engine: Engine) -> AdmissionsRpc:
    """With an authority of its own, so that tokens and rotations are real."""
    authority = Authority.open(folder / "authority", datetime.now(UTC))
    shelf.commit(*shelf.book.membership.first_authority(authority.fingerprint))
    invitations = Invitations(authority.zone.id, lambda: ["10.9.8.1:5600"])
    return AdmissionsRpc(shelf, engine, invitations, lambda: authority.make_next(datetime.now(UTC)), now_ms)


def _gateway(
    stubs: dict[Book, Handlers], local: LocalImages, displays: LocalDisplays, admissions: Handlers
) -> Gateway:
    services = Services(
        cast("v1.SchedulerStub", stubs[Book.SCHEDULER]),
        cast("v1.ImageStoreStub", stubs[Book.IMAGESTORE]),
        cast("v1.AddressPoolsStub", stubs[Book.ADDRESSPOOL]),
        local,
        displays,
        cast("v1.AdmissionsStub", admissions),
    )
    return Gateway(View(), Bell(), services, time.monotonic, now_ms, started_ms=now_ms())


@contextlib.asynccontextmanager
async def _served(
    folder: Path, gateway: Gateway, keys: Sequence[Credential], jobs: asyncio.TaskGroup
) -> AsyncIterator[tuple[httpx.AsyncClient, ssl.SSLContext, Callable[[], None]]]:
    pair = certificate.files(folder / "tls", [], datetime.now(UTC))
    with bound("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        serving = server(App(gateway, Keyring(keys)), certificate.context(*pair))
        answering = jobs.create_task(serving.serve([listener]))
        await serving.up.wait()

        def stop() -> None:
            gateway.is_stopping = True
            gateway.bell.ring()
            gateway.sampled.ring()
            serving.stop()

        trust = ssl.create_default_context(cafile=str(pair[0]))
        try:
            async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=trust) as client:
                yield client, trust, stop
        finally:
            stop()
            await answering


def digest(content: bytes) -> str:
    """The documented signature of a download."""
    return hashlib.sha1(content).hexdigest()
