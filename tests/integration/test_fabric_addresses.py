"""A host with several addresses answers from the one that its peer has dialled."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from aioquic.quic.packet import QuicHeader, QuicPacketType

from nano.fabric.fabric import Fabric
from nano.fabric.links import dialled, ends
from nano.fabric.packets.half_open import RETRY_ABOVE
from nano.fabric.packets.quic import header_of
from nano.fabric.packets.udp import bind
from nano.model.errors import Conflict, Unreachable
from nano.model.peers import Role
from tests.support.bodies import Bodies
from tests.support.echo import ROLES, EchoHandler, EchoStub
from tests.support.elsewhere import Elsewhere, elsewhere
from tests.support.fabrics import Lab
from tests.support.strangers import first_packets, noise
from tests.support.wires import Hosts, hosts, ip, on_host

__all__ = ["hosts"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

EVERY, SECOND = "0.0.0.0", "127.0.0.2"
BODY = bytes(range(256)) * 8192
"""Two MiB: many packets in one system call."""

PATIENCE_S = 10.0
"""A bound, never a wait."""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def _serve(fabric: Fabric) -> None:
    fabric.serve([EchoHandler()], ROLES)
    fabric.serve_bulk(Bodies(BODY), {("GET", "/"): frozenset({Role.SCHEDULER})})


async def _uses(scheduler: Fabric, cell: Elsewhere) -> None:
    """A call, a body, a sample."""
    samples: asyncio.Queue[bytes] = asyncio.Queue()
    scheduler.on_sample(lambda _, data: samples.put_nowait(data))
    async with asyncio.timeout(PATIENCE_S):
        assert (
            await EchoStub(scheduler.channel(Role.CELL, "c1")).repeat(b"x" * 100_000, timeout=5)
            == b"x" * 100_000
        )
        assert b"".join([part async for part in scheduler.bulk(Role.CELL, "c1").get("/body")]) == BODY
        assert await cell.do(_sample(cell.fabric))
        assert await samples.get() == b"sample"


async def _sample(cell: Fabric) -> int:
    return cell.send_sample(b"sample")


@contextlib.asynccontextmanager
async def _joined(lab: Lab, host: str, role: Role, name: str, address: str) -> AsyncIterator[Fabric]:
    """Others dial it at `address`, one of its host's."""
    with on_host(host):
        joining = lab.join(role, name, host=EVERY)
        fabric = await joining.__aenter__()
    lab.addresses[f"{role}/{name}"] = f"{address}:{fabric.address[1]}"
    try:
        yield fabric
    finally:
        await joining.__aexit__(None, None, None)


@needs_root
@pytest.mark.parametrize("dialled", ["10.99.0.9", "10.98.0.1"], ids=["same-wire", "other-interface"])
async def test_a_peer_is_reached_at_its_second_address_also_after_we_have_moved(
    hosts: Hosts, lab: Lab, dialled: str
) -> None:
    left, right = hosts.add("l"), hosts.add("r")
    hosts.wire("wire", (left, "10.99.0.1/24"), (right, "10.99.0.2/24"))
    ip("-n", right, "address", "add", "10.99.0.9/24", "dev", "wire")
    ip("-n", right, "address", "add", "10.98.0.1/32", "dev", "lo")
    ip("-n", left, "route", "add", "default", "via", "10.99.0.2")
    async with elsewhere(lambda: _joined(lab, right, Role.CELL, "c1", dialled), _serve) as cell:
        with on_host(left):  # the socket of each dial is opened as it is needed
            async with lab.join(Role.SCHEDULER, "s1", host=EVERY) as scheduler:
                await _uses(scheduler, cell)
                before = set(scheduler.links)
                await asyncio.to_thread(hosts.move, left, "wire", "10.99.0.1/24", "10.99.0.7/24")
                ip("-n", left, "route", "add", "default", "via", "10.99.0.2")
                await _uses(scheduler, cell)
                assert set(scheduler.links) == before
                assert {link.address[0] for link in before} == {dialled}
                assert {link.address[0] for link in cell.fabric.links} == {"10.99.0.7"}


async def _answer(fabric: Fabric, *packets: bytes) -> QuicHeader | None:
    """The head of what comes back from the address that was spoken to: nobody else is heard."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.setblocking(False)
        stranger.connect((SECOND, fabric.address[1]))
        for packet in packets:
            stranger.send(packet)
        async with asyncio.timeout(PATIENCE_S):
            return header_of(await asyncio.get_running_loop().sock_recv(stranger, 2000))


async def test_so_does_an_offer_of_versions(lab: Lab) -> None:
    async with lab.join(Role.SCHEDULER, "s1", host=EVERY) as fabric:
        (packet,) = first_packets(1)
        said = await _answer(fabric, packet[:1] + b"\x0a\x1a\x2a\x3a" + packet[5:])
        assert said is not None
        assert said.packet_type is QuicPacketType.VERSION_NEGOTIATION


async def test_so_does_a_retry(lab: Lab) -> None:
    async with lab.join(Role.SCHEDULER, "s1", host=EVERY) as fabric:
        said = await _answer(fabric, *noise(RETRY_ABOVE), *first_packets(1))
        assert said is not None
        assert said.packet_type is QuicPacketType.RETRY


async def test_a_port_that_another_process_has_is_said_as_it_is_and_not_as_a_group_of_errors(
    lab: Lab,
) -> None:
    async with lab.join(Role.SCHEDULER, "s1") as fabric:
        with pytest.raises(Conflict, match=f":{fabric.address[1]} cannot be bound"):
            async with lab.join(Role.SCHEDULER, "s2", port=fabric.address[1]):
                raise AssertionError("both have it")


async def test_a_peer_that_answers_from_another_address_is_said_to(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At both ends: as it was before a listener told the kernel, and is behind a translation."""
    monkeypatch.setattr(ends, "listen", bind)
    monkeypatch.setattr(dialled, "DIAL_S", 0.5)
    async with lab.join(Role.CELL, "c1", host=EVERY) as cell:
        port = cell.address[1]
        lab.addresses["cell/c1"] = f"{SECOND}:{port}"
        with structlog.testing.capture_logs() as lines:
            async with lab.join(Role.SCHEDULER, "s1", host=EVERY) as scheduler:
                with pytest.raises(
                    Unreachable, match=f"{SECOND} .* the answer came from 127.0.0.1 port {port}"
                ):
                    await EchoStub(scheduler.channel(Role.CELL, "c1")).repeat(b"x", timeout=5)
                async with asyncio.timeout(PATIENCE_S):
                    while cell._listener.links:
                        await cell._listener.links[0].wait_closed()
        (line,) = (line for line in lines if line["event"] == "link.refused")
        assert "gave up before the handshake was over: perhaps it does not hear us" in line["reason"]
        assert "APPLICATION_ERROR 0xc" in line["reason"]
