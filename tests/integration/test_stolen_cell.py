"""A thief with one cell's key and certificate, in a whole zone: it gets what is that cell's, and no more."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from betterproto2.grpclib.grpclib_client import ServiceStub
from betterproto2.grpclib.grpclib_server import ServiceBase
from cryptography import x509
from grpclib.const import Cardinality, Handler

from nano import wire
from nano.cli import settings
from nano.cli.client import Client
from nano.contracts.nano import v1
from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity.folder import IdentityFolder
from nano.fabric.joining.enrolment import enrol
from nano.fleet.libvirtd import run_folder
from nano.fleet.network_namespace import own_network
from nano.member import MEMBER_ROLES
from nano.model.action import Outcome, Progress
from nano.model.errors import Conflict, Forbidden, Invalid, NanoError, NotFound, Unreachable, Unsupported
from nano.model.ids import InstanceId
from nano.model.instance import InstanceStatus, Power
from nano.model.peers import Peer, Role
from nano.model.pool import Capabilities, Usage, VirtType
from nano.model.task import Fault
from nano.steps import STEP_ROLES
from services.cell.rpc import ROLES as CELL_ROLES
from tests.support.fleets import fleet, up_until_told

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a network of our own and the enrolment socket need root"),
]

THIEF = "Cell_0200000dead0"
FOUND_OUT = "Cell_0200000dead1"
PATIENCE_S = 30.0
MARK_BYTES = 123_456_789
"""A size that nobody else measures."""
SERVED = (Role.SCHEDULER, Role.IMAGESTORE, Role.ADDRESSPOOL, Role.GATEWAY)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One zone for all the tests, which leave it as it was."""
    folder = tmp_path_factory.mktemp("zone")
    with own_network():
        with up_until_told(folder, "--simulated"):
            yield folder
        subprocess.run(fleet("--root", str(folder), "down"), capture_output=True, check=False)


@dataclass
class Lies(v1.CellHostBase, v1.StepsBase, v1.MemberBase):
    """What the thief tells the scheduler, who asks it as it asks every cell."""

    statuses: list[InstanceStatus]
    outcomes_told: "asyncio.Queue[Outcome]" = field(default_factory=asyncio.Queue)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """The scheduler has taken in all statuses."""
    begun: list[v1.BeginRequest] = field(default_factory=list)

    def __mapping__(self) -> dict[str, Handler]:
        bases = (v1.CellHostBase, v1.StepsBase, v1.MemberBase)
        return {path: made for base in bases for path, made in base.__mapping__(self).items()}

    async def watch(self, message: v1.CellWatchRequest) -> AsyncIterator[v1.CellReport]:
        """No room for anything: so that no instance of somebody else is put here."""
        can = Capabilities(VirtType.SIMULATED, cores=1, memory_bytes=1, disk_bytes=1)
        told = [wire.outgoing(status) for status in self.statuses]
        account = v1.Account(incarnation="stolen", capabilities=wire.outgoing(can), statuses=told)
        yield v1.CellReport(account=account)
        for status in told:
            yield v1.CellReport(status=status)
        self.asked.set()
        await asyncio.Event().wait()

    async def outcomes(self, message: v1.OutcomesRequest) -> AsyncIterator[v1.Outcome]:
        yield v1.Outcome()
        while True:
            yield wire.outcome_message(await self.outcomes_told.get())

    async def trust(self, message: v1.ZoneTrust) -> v1.TrustReply:
        """Says that it has the last revision that there can be: none could follow it."""
        return v1.TrustReply(revision=2**64 - 1, issuer="0" * 64)

    async def begin(self, message: v1.BeginRequest) -> v1.Outcome:
        self.begun.append(message)
        raise Conflict("the thief does no work")


@dataclass
class Theft:
    name: str
    fabric: Fabric
    lies: Lies
    client: Client
    victim: str
    """The zone's honest cell."""
    guest: str
    """An instance on it, running."""
    image: str

    async def rest(self, method: str, path: str, body: object = None) -> Any:
        return (await asyncio.to_thread(self.client.call, method, path, body=body)).data

    async def until(self, method: str, path: str, holds: Any) -> Any:
        """Asks until it holds: looks again whenever the gateway tells of a change."""
        return await asyncio.to_thread(self._until, method, path, holds)

    def _until(self, method: str, path: str, holds: Any) -> Any:
        for _ in self.client.events():  # the first one says where the stream begins
            if holds(found := self.client.call(method, path).data):
                return found
        raise AssertionError("the event stream ended")

    async def confirmed(self) -> None:
        """The thief has told all its lies about instances, and is a cell like any other."""
        async with asyncio.timeout(PATIENCE_S):
            await self.lies.asked.wait()
            await self.until(
                "GET",
                "/compute_pool_cells/default",
                lambda cells: self.name in [cell["name"] for cell in cells if cell["confirmed"]],
            )


@asynccontextmanager
async def theft(root: Path, name: str = THIEF) -> AsyncIterator[Theft]:
    """A cell that root has let in, as the thief uses its key; and what there is to be stolen."""
    run = run_folder(root)
    identity = await enrol(run / "enrolment.sock", Role.CELL, name, root / name)
    config = FabricConfig(host="127.0.0.1", port=0, interfaces=("127.0.0.1",))
    with closing_client(root) as client:
        (guest,) = client.call("GET", "/instance_status/default").data
        (image,) = client.call("GET", "/disk_image_search/", query={"group": "admin"}).data
        lies = Lies([InstanceStatus(InstanceId(guest["id"]), 1, 2**40, Power.STOPPED, reason="stolen")])
        async with Fabric.join(config, identity) as fabric:
            fabric.serve([lies], CELL_ROLES_HERE)
            yield Theft(name, fabric, lies, client, guest["cell"], guest["id"], image["id"])


CELL_ROLES_HERE = CELL_ROLES | STEP_ROLES | MEMBER_ROLES


def closing_client(root: Path) -> Client:
    return Client(settings.read(root / "nanoctl.toml"))


def methods() -> dict[str, Handler]:
    services = (found for found in vars(v1).values() if isinstance(found, type))
    found: dict[str, Handler] = {}
    for service in services:
        if issubclass(service, ServiceBase) and service is not ServiceBase:
            found |= service().__mapping__()  # type: ignore[attr-defined]
    return found


async def called(
    fabric: Fabric, role: Role, name: str | None, path: str, method: Handler
) -> NanoError | None:
    """How such a call is answered; None: it is."""
    stub = ServiceStub(fabric.channel(role, name), timeout=PATIENCE_S)
    _, cardinality, asks, gives = method
    try:
        match cardinality:
            case Cardinality.UNARY_UNARY:
                await stub._unary_unary(path, asks(), gives)
            case Cardinality.UNARY_STREAM:
                async for _ in stub._unary_stream(path, asks(), gives):
                    break
            case _:
                async for _ in stub._stream_stream(path, [asks()], asks, gives):
                    break
    except NanoError as error:
        return error
    return None


async def test_it_may_call_nothing_of_anybody_but_renew_its_own_name(root: Path) -> None:
    async with theft(root) as it:
        peers: list[tuple[Role, str | None]] = [*((role, None) for role in SERVED), (Role.CELL, it.victim)]
        for path, method in methods().items():
            answers = [await called(it.fabric, *peer, path, method) for peer in peers]
            if path == "/nano.v1.Door/Renew":
                continue
            assert all(isinstance(one, Forbidden | Unsupported) for one in answers), (path, answers)
            assert any(isinstance(one, Forbidden) for one in answers), f"{path} is served by nobody"


async def test_it_renews_no_other_name_and_no_other_key(root: Path) -> None:
    async with theft(root) as it:
        door = v1.DoorStub(it.fabric.channel(Role.SCHEDULER))
        other = IdentityFolder(root / "another", Peer(Role.GATEWAY, "main"))
        with pytest.raises(Invalid, match="another key"):
            await door.renew(v1.RenewRequest(csr=other.signing_request()))
        own = IdentityFolder(root / THIEF, Peer(Role.CELL, THIEF))
        grant = await door.renew(v1.RenewRequest(csr=own.signing_request()))
        shown = x509.load_pem_x509_certificate(grant.certificate.encode())
        assert f"cell {THIEF}" in shown.subject.rfc4514_string()


async def test_what_it_tells_of_others_changes_nothing(root: Path) -> None:
    async with theft(root) as it:
        await it.confirmed()
        cells = await it.rest("GET", "/compute_pool_cells/default")
        assert {cell["name"] for cell in cells if cell["alive"]} == {it.victim, THIEF}
        guest = await it.rest("GET", f"/guests/{it.guest}")
        assert (guest["running"], guest["cell"]) == (True, it.victim)


async def test_a_sample_of_another_cells_instance_is_not_taken(root: Path) -> None:
    def usage(subject: str) -> Usage:
        return Usage(subject, 2**42, 1.0, 0, MARK_BYTES, 0, MARK_BYTES, 0, 0, 0, 0)

    async with theft(root) as it:
        await it.confirmed()
        lies = bytes(wire.usages_message([usage(it.victim), usage(it.guest), usage(THIEF)]))
        mine = f"/compute_cell_status/default/{THIEF}"
        async with asyncio.timeout(PATIENCE_S):
            while (await it.rest("GET", mine))["max_memory"] != MARK_BYTES:  # a datagram may be lost
                it.fabric.send_sample(lies)
        theirs = await it.rest("GET", f"/compute_cell_status/default/{it.victim}")
        assert theirs["max_memory"] != MARK_BYTES
        running = await it.rest("GET", f"/instances/{it.guest}")
        assert MARK_BYTES not in running.values()


async def test_it_cannot_end_a_step_of_another_cell(root: Path) -> None:
    async with theft(root) as it:
        await it.confirmed()
        fault = Fault("conflict", "stolen")
        ask = it.client.call
        answer = await asyncio.to_thread(ask, "DELETE", f"/instances/{it.guest}", body={"force": True})
        lie = Outcome(answer.task, "stop_instance", Progress.FAILED, fault=fault)
        it.lies.outcomes_told.put_nowait(lie)
        task = await it.until(
            "GET", f"/tasks/{answer.task}", lambda task: task["state"] in {"done", "failed"}
        )
        assert (task["state"], task["error"]) == ("done", None)
        assert it.lies.begun == []
        await it.rest("POST", f"/instances/{it.guest}", {})


async def test_image_bytes_are_not_for_it(root: Path) -> None:
    async with theft(root) as it:
        bulk = it.fabric.bulk(Role.IMAGESTORE)
        for path in (f"/images/{it.image}/1", f"/images/{it.image}/2", "/images/", "/shelf"):
            with pytest.raises((Forbidden, NotFound)):
                await anext(aiter(bulk.get(path)))
        with pytest.raises(Forbidden):
            await bulk.head(f"/images/{it.image}/1")

        async def poison() -> AsyncIterator[bytes]:
            yield b"poison"

        with pytest.raises(Forbidden):
            await bulk.put(f"/images/{it.image}", poison())


async def test_it_cannot_put_itself_into_a_pool_or_let_others_in(root: Path) -> None:
    async with theft(root) as it:
        scheduler = it.fabric.channel(Role.SCHEDULER)
        with pytest.raises(Forbidden):
            await v1.SchedulerStub(scheduler).add_cell(v1.CellRequest(pool="default", cell=THIEF))
        with pytest.raises(Forbidden):
            await v1.AdmissionsStub(scheduler).create_token(v1.CreateTokenRequest(role="cell", lifetime_s=60))
        with pytest.raises(Forbidden):
            await v1.AdmissionsStub(scheduler).remove_peer(v1.MemberRef(role="cell", id=it.victim))


async def test_once_it_is_found_out_it_is_shut_out_whatever_it_says_that_it_knows(root: Path) -> None:
    async with theft(root, FOUND_OUT) as it:
        await it.confirmed()
        await it.rest("DELETE", f"/members/cell/{FOUND_OUT}")
        page = await it.until("GET", "/members/", lambda page: page["uninformed"] == 0)
        assert FOUND_OUT not in [one["id"] for one in page["members"]]
        for role in SERVED:
            with pytest.raises(NanoError) as refused:
                await v1.StepsStub(it.fabric.channel(role)).ask(v1.StepRef(), timeout=5)
            assert isinstance(refused.value, Forbidden | Unreachable)
        await it.until(
            "GET",
            "/compute_pool_cells/default",
            lambda cells: FOUND_OUT not in [cell["name"] for cell in cells],
        )
