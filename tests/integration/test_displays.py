"""Displays over the real fabric: from the gateway's call to the emulator's socket, and both ends of it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from grpclib.const import Cardinality

from nano.contracts.nano import v1
from nano.fabric.calls.codec import MessageCodec
from nano.fabric.fabric import Fabric
from nano.fabric.links import dialled
from nano.fabric.packets.quic import Windows
from nano.model.errors import Conflict, Exhausted, Forbidden, Invalid, NotFound, Unreachable
from nano.model.ids import CellId, InstanceId
from nano.model.peers import Role
from nano.relay import End
from services.cell import display as module
from services.cell.descriptor import READ_BYTES, Descriptor
from services.cell.display import OPEN_DISPLAY, PIECE_BYTES, UNSENT_BYTES, Displays
from services.cell.hypervisor import Hypervisor
from services.cell.rpc import ROLES, CellRpc
from services.cell.sim import SimHypervisor
from services.gateway.displays import CellDisplays
from tests.support.cell import INSTANCE, CellRig, cell, start
from tests.support.consoles import CONSOLES, closed, console, rfb, running, ticket
from tests.support.fabrics import Lab
from tests.support.hypervisor import new_instance
from tests.support.rfb import Ended, RfbClient
from tests.support.stillness import PATIENCE_S, still
from tests.support.udp_relay import Relay
from tests.support.zone import CELL, zone

C1 = CellId("c1")
KINDS = (Cardinality.STREAM_STREAM, v1.DisplayPiece, v1.DisplayPiece)


@dataclass
class Rig:
    lab: Lab
    cell: CellRig
    gateway: Fabric
    at_cell: Fabric
    network: Relay
    displays: CellDisplays
    served: Displays

    async def all_closed(self) -> None:
        """Until the cell holds no display any more."""
        (link,) = self.gateway.links
        async with asyncio.timeout(PATIENCE_S):
            while self.served.open:
                await link.ping()


@contextlib.asynccontextmanager
async def joined(folder: Path, hypervisor: Hypervisor | None = None, **settings: float) -> AsyncIterator[Rig]:
    """A cell with one instance that is on, and a gateway. `hypervisor`: whose displays, if others."""
    lab = Lab(folder, MessageCodec())
    async with cell(folder / "cell") as made:
        await made.made()
        await made.step(start())
        rpc = CellRpc(made.shelf, await made.hypervisor.probe(), hypervisor or made.hypervisor)
        async with lab.join(Role.CELL, C1, **settings) as at_cell, Relay.to(at_cell.address) as network:
            at_cell.serve([rpc], ROLES)
            lab.addresses[f"cell/{C1}"] = network.address
            async with lab.join(Role.GATEWAY, "g1", **settings) as gateway:
                yield Rig(lab, made, gateway, at_cell, network, CellDisplays(gateway), rpc.displays)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with joined(tmp_path) as made:
        yield made


def _client(display: End) -> RfbClient:
    return RfbClient(display.receive, display.send)


async def test_a_display_travels_and_is_closed_with_its_caller(rig: Rig) -> None:
    async with rig.displays.open(C1, INSTANCE) as display:
        client = _client(display)
        await client.shake_hands()
        assert client.name == "web1 (simulated)"
        await client.ask()
        (picture,) = await client.update()  # a megabyte: in many pieces
        assert (picture.width, picture.height) == (client.width, client.height)
        assert len(picture.colours) == 3
        assert rig.served.open == 1
    await rig.all_closed()
    assert all(link.quic.held_bytes == 0 for link in (*rig.gateway.links, *rig.at_cell.links))


async def test_what_is_long_is_sent_in_pieces(rig: Rig) -> None:
    async with rig.displays.open(C1, INSTANCE) as display:
        client = _client(display)
        await client.shake_hands()
        clipboard = b"\x06\x00\x00\x00" + (3 * PIECE_BYTES).to_bytes(4, "big") + bytes(3 * PIECE_BYTES)
        assert await display.send(clipboard)
        await client.ask()
        assert await client.update()


async def test_a_machine_that_goes_off_ends_the_display_well(rig: Rig) -> None:
    async with rig.displays.open(C1, INSTANCE) as display:
        client = _client(display)
        await client.shake_hands()
        rig.cell.sim.crash(INSTANCE)
        with pytest.raises(Ended):
            await client.update()
    await rig.all_closed()


async def test_what_cannot_be_shown_says_why(rig: Rig) -> None:
    stranger = new_instance()
    for cell_id, instance, error in ((C1, stranger, NotFound), (CellId("c9"), INSTANCE, Unreachable)):
        with pytest.raises(error):
            async with rig.displays.open(cell_id, instance):
                pass
    rig.cell.sim.crash(INSTANCE)
    with pytest.raises(Conflict) as caught:
        async with rig.displays.open(C1, INSTANCE):
            pass
    assert (caught.value.subject, "start it" in caught.value.message) == (INSTANCE, True)


async def test_only_the_gateway_may_look(rig: Rig) -> None:
    for role in (Role.SCHEDULER, Role.IMAGESTORE, Role.CELL):
        async with rig.lab.join(role, "other") as fabric:
            with pytest.raises(Forbidden):
                async with CellDisplays(fabric).open(C1, INSTANCE):
                    pass


async def test_the_first_piece_names_the_instance_and_none_is_too_long(rig: Rig) -> None:
    async def say(*pieces: v1.DisplayPiece) -> None:
        async with rig.gateway.channel(Role.CELL, C1).request(OPEN_DISPLAY, *KINDS) as call:
            for piece in pieces:
                await call.send_message(piece)
            while await call.recv_message() is not None:
                pass
            await call.end_well()

    named = v1.DisplayPiece(instance=INSTANCE)
    for pieces, field in (
        ((v1.DisplayPiece(),), "instance"),
        ((v1.DisplayPiece(instance=INSTANCE, data=b"RFB 003.008\n"),), "instance"),
        ((named, v1.DisplayPiece(data=bytes(PIECE_BYTES + 1))), "data"),
    ):
        with pytest.raises(Invalid) as caught:
            await say(*pieces)
        assert caught.value.field == field
    await rig.all_closed()


async def test_a_caller_that_ends_its_half_ends_the_call(rig: Rig) -> None:
    channel = rig.gateway.channel(Role.CELL, C1)
    async with channel.request(OPEN_DISPLAY, *KINDS) as call:
        await call.send_message(v1.DisplayPiece(instance=INSTANCE))
        assert await call.recv_message() == v1.DisplayPiece()
        await call.end()
        while await call.recv_message() is not None:
            pass
        await call.recv_trailing_metadata()  # and all is well
    await rig.all_closed()


async def test_a_caller_that_is_cancelled_closes_the_display(rig: Rig) -> None:
    shaken = asyncio.Event()

    async def look() -> None:
        async with rig.displays.open(C1, INSTANCE) as display:
            client = _client(display)
            await client.shake_hands()
            shaken.set()
            await client.update()

    async with asyncio.TaskGroup() as jobs:
        looking = jobs.create_task(look())
        await shaken.wait()
        assert rig.served.open == 1
        looking.cancel()
    await rig.all_closed()


async def test_a_network_that_is_cut_ends_the_display_at_both_ends(tmp_path: Path) -> None:
    async with joined(tmp_path, keep_alive_s=0.1, suspect_s=0.3, lost_s=0.6) as rig:
        async with rig.displays.open(C1, INSTANCE) as display:
            await _client(display).shake_hands()
            (theirs,) = rig.at_cell.links
            rig.network.cut = True
            with pytest.raises(Unreachable, match="silent for too long"):
                await display.receive()
            async with asyncio.timeout(PATIENCE_S):
                await theirs.wait_closed()
        rig.network.cut = False
        async with rig.displays.open(C1, INSTANCE):  # and nothing is left of the one before
            assert rig.served.open == 1
        await rig.all_closed()


async def test_there_are_not_too_many(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISPLAYS", 1)
    async with rig.displays.open(C1, INSTANCE):
        with pytest.raises(Exhausted):
            async with rig.displays.open(C1, INSTANCE):
                pass
    await rig.all_closed()
    async with rig.displays.open(C1, INSTANCE):
        pass


async def test_the_link_for_displays_is_closed_when_it_is_not_used(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as impatient:
        impatient.setattr(dialled, "IDLE_S", 0.5)
        async with rig.displays.open(C1, INSTANCE):
            (link,) = rig.gateway.links
        async with asyncio.timeout(PATIENCE_S):
            await link.wait_closed()
    assert link.graceful
    async with rig.displays.open(C1, INSTANCE) as display:  # and is there again when it is needed
        await _client(display).shake_hands()


# ------------------------------------------------------------------ who does not read


class Flooding(SimHypervisor):
    """An emulator that draws without end, and never hears a key."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)
        self.near: list[Counted] = []
        self.far: list[socket.socket] = []

    async def open_display(self, _: InstanceId) -> Descriptor:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        far.setblocking(False)
        self.far.append(far)
        self.near.append(Counted(near))
        return self.near[-1]

    async def draw(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await loop.sock_sendall(self.far[0], bytes(64 * 1024))


@pytest.fixture
async def flooding() -> AsyncIterator[Flooding]:
    made = Flooding()
    yield made
    for far in made.far:
        far.close()


class Counted(Descriptor):
    taken_bytes = 0

    async def receive(self) -> bytes:
        data = await super().receive()
        self.taken_bytes += len(data)
        return data


async def test_a_browser_that_does_not_read_stops_the_emulator(tmp_path: Path, flooding: Flooding) -> None:
    async with (
        joined(tmp_path, flooding) as rig,
        rig.displays.open(C1, INSTANCE) as display,
        asyncio.TaskGroup() as jobs,
    ):
        (near,), (ours,), (theirs,) = flooding.near, rig.gateway.links, rig.at_cell.links
        drawing = jobs.create_task(flooding.draw())
        taken = await still(lambda: near.taken_bytes, ours.ping, lambda: [theirs])
        arrived = ours.quic.held_bytes
        assert arrived <= Windows().stream_bytes
        assert taken - arrived <= UNSENT_BYTES + 2 * READ_BYTES  # one of them in the hand
        for _ in range(20):
            assert await display.receive()
        async with asyncio.timeout(PATIENCE_S):
            while near.taken_bytes == taken:
                await theirs.ping()
        drawing.cancel()


async def test_a_guest_that_does_not_hear_stops_the_browser(tmp_path: Path, flooding: Flooding) -> None:
    sent = 0

    async def type_on(display: End) -> None:
        nonlocal sent
        while await display.send(bytes(32 * 1024)):
            sent += 32 * 1024

    async with (
        joined(tmp_path, flooding) as rig,
        rig.displays.open(C1, INSTANCE) as display,
        asyncio.TaskGroup() as jobs,
    ):
        typing = jobs.create_task(type_on(display))
        (ours,), (theirs,) = rig.gateway.links, rig.at_cell.links
        total = await still(lambda: sent, ours.ping, lambda: [ours])
        assert theirs.quic.held_bytes <= Windows().stream_bytes
        kernel = flooding.far[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) * 2
        assert total <= Windows().stream_bytes + kernel + 4 * PIECE_BYTES
        typing.cancel()


# ------------------------------------------------------------------ the whole way


async def test_from_the_browser_to_the_machine_and_back(tmp_path: Path) -> None:
    lab = Lab(tmp_path, MessageCodec())
    async with (
        zone(tmp_path / "zone") as z,
        lab.join(Role.CELL, CELL) as at_cell,
        lab.join(Role.GATEWAY, "main") as fabric,
    ):
        rpc = CellRpc(z.cell.shelf, await z.cell.hypervisor.probe(), z.cell.hypervisor)
        at_cell.serve([rpc], ROLES)
        z.gateway.services = replace(z.gateway.services, displays=CellDisplays(fabric))
        guest = await running(z)
        async with console(z, CONSOLES + await ticket(z, guest)) as browser:
            client = rfb(browser)
            await client.shake_hands()
            await client.ask()
            assert await client.update()
            await client.ask(incremental=True)
            await client.press("x")
            assert await client.update()
        (link,) = fabric.links
        async with asyncio.timeout(PATIENCE_S):
            while rpc.displays.open:
                await link.ping()
        async with console(z, CONSOLES + await ticket(z, guest)) as browser:
            await rfb(browser).shake_hands()
            link.close(Unreachable(f"cell/{CELL} has been silent for too long"))
            assert await closed(browser) == (1011, f"cell/{CELL} has been silent for too long")


async def test_a_browser_that_does_not_read_stops_the_emulator_behind_everything(
    tmp_path: Path, flooding: Flooding
) -> None:
    lab = Lab(tmp_path, MessageCodec())
    async with (
        zone(tmp_path / "zone") as z,
        lab.join(Role.CELL, CELL) as at_cell,
        lab.join(Role.GATEWAY, "main") as fabric,
        asyncio.TaskGroup() as jobs,
    ):
        at_cell.serve([CellRpc(z.cell.shelf, await z.cell.hypervisor.probe(), flooding)], ROLES)
        z.gateway.services = replace(z.gateway.services, displays=CellDisplays(fabric))
        guest = await running(z)
        async with console(z, CONSOLES + await ticket(z, guest)) as browser:
            (near,), (link,) = flooding.near, fabric.links
            drawing = jobs.create_task(flooding.draw())
            taken = await still(lambda: near.taken_bytes, link.ping, lambda: at_cell.links)
            assert link.quic.held_bytes <= Windows().stream_bytes
            read = 0
            while near.taken_bytes == taken:
                read += len(await browser.recv())
            assert 0 < read <= taken
            drawing.cancel()
            browser.transport.abort()  # it would read to the end before it said good-bye
