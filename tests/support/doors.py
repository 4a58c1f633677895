"""A zone with a real scheduler's door on the loopback, and servers that join it; the calendar is the
test's."""

import asyncio
import contextlib
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from nano.contracts.nano import v1
from nano.fabric.fabric import Fabric
from nano.fabric.identity.authority import Authority
from nano.fabric.identity.folder import IdentityFolder
from nano.fabric.joining import application
from nano.fabric.joining.enrolment import EnrolmentServer
from nano.joining import Place, placed
from nano.model.membership import Applicant, Phase
from nano.model.peers import Peer, Role
from nano.saga.engine import Engine
from nano.service import Discovery, FabricSettings
from nano.shelf import Shelf
from nano.steps import RemoteCallees
from services.scheduler.admissions import ROLES as ADMISSIONS_ROLES
from services.scheduler.admissions import AdmissionsRpc
from services.scheduler.door import ROLES as DOOR_ROLES
from services.scheduler.door import DoorRpc
from services.scheduler.grants import Grants
from services.scheduler.inventory import Inventory
from services.scheduler.invitations import Invitations
from services.scheduler.members import Members
from services.scheduler.membership import Membership
from services.scheduler.tasks import SAGAS
from tests.support.certificates import utc_now

PATIENCE_S = 20.0
SCHEDULER = Peer(Role.SCHEDULER, "main")


def free_port() -> int:
    """A UDP port that nobody has now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Ticks(v1.StepsBase):
    """A stream that stays open, and a quick call beside it."""

    def __init__(self) -> None:
        self.next = asyncio.Event()

    async def ask(self, message: v1.StepRef) -> v1.Outcome:
        return v1.Outcome(task=message.task)

    async def outcomes(self, message: v1.OutcomesRequest) -> AsyncIterator[v1.Outcome]:
        for number in range(1_000):
            yield v1.Outcome(task=str(number))
            await self.next.wait()
            self.next.clear()


TICK_ROLES = {
    "/nano.v1.Steps/Ask": frozenset({Role.SCHEDULER, Role.GATEWAY, Role.CELL}),
    "/nano.v1.Steps/Outcomes": frozenset({Role.SCHEDULER, Role.GATEWAY, Role.CELL}),
}


@dataclass
class Door:
    """One life of the scheduler."""

    shelf: Shelf[Inventory]
    authority: Authority
    place: Place
    grants: Grants
    members: Members
    admissions: AdmissionsRpc

    @property
    def fabric(self) -> Fabric:
        return self.place.fabric

    @property
    def book(self) -> Membership:
        return self.shelf.book.membership

    async def token(self, role: Role = Role.CELL, name: str = "", lifetime_s: int = 3600) -> str:
        request = v1.CreateTokenRequest(role=role, id=name, lifetime_s=lifetime_s)
        return (await self.admissions.create_token(request)).token

    async def waiting(self, count: int = 1) -> list[Applicant]:
        """Those who wait and are there, once they are so many."""

        def there() -> list[Applicant]:
            return [one for one in self.book.applicants.values() if one.present and not one.refused_until_ms]

        await self.until(lambda: len(there()) == count)
        return there()

    async def admit(self, applicant: Applicant) -> None:
        await self.admissions.admit(v1.ApplicantRef(fingerprint=applicant.fingerprint))

    async def remove(self, peer: Peer) -> None:
        await self.admissions.remove_peer(v1.MemberRef(role=peer.role, id=peer.id))

    async def until(self, condition: object) -> None:
        """Until what the book says is so."""
        assert callable(condition)
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await self.members.changed.heard()

    async def known_by(self, *peers: Peer) -> None:
        """Until these have in force what is trusted now."""
        await self.until(
            lambda: all(self.book.members[each].trust_revision >= self.book.trust_revision for each in peers)
        )

    async def phase(self, phase: Phase) -> None:
        await self.until(lambda: self.book.trust.phase is phase)


@dataclass
class Zone:
    """The folders and ports of a zone; the scheduler may be opened any number of times, one after the
    other."""

    folder: Path
    moved: timedelta = timedelta()
    port: int = field(default_factory=free_port)
    group_port: int = field(default_factory=free_port)
    domain: str = field(default_factory=lambda: f"test-{secrets.token_hex(4)}")
    ports: dict[Peer, int] = field(default_factory=dict)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def clock(self) -> datetime:
        return utc_now() + self.moved

    def now_ms(self) -> int:
        return int(self.clock().timestamp() * 1000)

    @property
    def socket(self) -> Path:
        return self.folder / "run" / "s"

    def identity(self, peer: Peer) -> Path:
        return self.folder / f"{peer.role}-{peer.id}" / "identity"

    def settings(self, peer: Peer, **more: object) -> FabricSettings:
        """`peer` on the loopback, found by multicast there; with no scheduler on its host unless told so."""
        port = self.port if peer == SCHEDULER else self.ports.setdefault(peer, free_port())
        discovery = Discovery(self.domain, port=self.group_port, interfaces=("127.0.0.1",))
        options: dict[str, object] = {
            "listen": "127.0.0.1",
            "port": port,
            "discovery": discovery,
            "enrolment": "",
        }
        return FabricSettings(**(options | more))  # type: ignore[arg-type]

    @contextlib.asynccontextmanager
    async def scheduler(self) -> AsyncIterator[Door]:
        """As `services/scheduler/__main__.py` wires it, without instances."""
        self.socket.parent.mkdir(mode=0o755, exist_ok=True)
        async with AsyncExitStack() as up:
            shelf = await up.enter_async_context(Shelf.open(self.folder / "shelf", Inventory))
            shelf.commit(*shelf.book.membership.nobody_is_present())
            authority = Authority.open(self.folder / "authority", self.clock(), name="lab")
            grants = Grants(shelf, authority, self.now_ms, self.clock)
            await up.enter_async_context(EnrolmentServer(authority, self.socket, self.clock, members=grants))
            settings = self.settings(SCHEDULER, enrolment=str(self.socket))
            place = await up.enter_async_context(
                placed(
                    settings,
                    SCHEDULER,
                    self.identity(SCHEDULER),
                    self.stopping,
                    clock=self.clock,
                    spread_s=0.05,
                )
            )
            members = Members(shelf, place.fabric, grants, (SCHEDULER, place.member), self.now_ms)
            members.ask_again_s = 0.1
            jobs = await up.enter_async_context(asyncio.TaskGroup())
            up.callback(jobs.create_task(members.run()).cancel)
            invitations = Invitations(authority.zone.id, lambda: [f"127.0.0.1:{self.port}"])
            engine = Engine(shelf, SAGAS, RemoteCallees(place.fabric), now_ms=self.now_ms)
            admissions = AdmissionsRpc(shelf, engine, invitations, grants.next_authority, self.now_ms)
            place.fabric.serve([admissions], ADMISSIONS_ROLES)
            door = DoorRpc(shelf, grants, lambda: place.fabric.issuer, members.changed, self.now_ms)
            place.fabric.serve([door], DOOR_ROLES)
            place.fabric.admit_applicants()
            yield Door(shelf, authority, place, grants, members, admissions)

    @contextlib.asynccontextmanager
    async def joined(self, peer: Peer, **settings: object) -> AsyncIterator[tuple[Place, Ticks]]:
        """A service of another host (or of this one, with `enrolment`), which serves `Ticks`."""
        ticks = Ticks()
        configured = self.settings(peer, **settings)
        async with placed(
            configured, peer, self.identity(peer), self.stopping, clock=self.clock, spread_s=0.05
        ) as place:
            place.fabric.serve([ticks], TICK_ROLES)
            yield place, ticks

    async def join(self, peer: Peer, **settings: object) -> None:
        """Join, and leave again."""
        async with asyncio.timeout(PATIENCE_S), self.joined(peer, **settings):
            pass

    async def linked(self, door: Door, peer: Peer) -> None:
        """Until the scheduler has a link to `peer`."""
        async with asyncio.timeout(PATIENCE_S):
            while not any(link.is_up and link.peer == peer for link in door.fabric.links):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def folder_of(self, peer: Peer) -> IdentityFolder:
        return IdentityFolder(self.identity(peer), peer)

    async def note(self, peer: Peer) -> application.Application:
        """What a waiting server shows to people, once it has a code."""
        async with asyncio.timeout(PATIENCE_S):
            while not ((found := application.read(self.identity(peer))) and found.code):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found

    def application(self, peer: Peer) -> application.Application:
        found = application.read(self.identity(peer))
        assert found is not None
        return found


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """The path of a socket is limited."""
    with tempfile.TemporaryDirectory(prefix="nano-door-") as made:
        Path(made).chmod(0o755)
        yield Path(made)
