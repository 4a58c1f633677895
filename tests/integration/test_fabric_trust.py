"""Both ends of a link prove who they are before anything is served."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent

from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity.identity import Identity
from nano.fabric.links.sparing import LINES
from nano.fabric.peers.roster_events import News
from nano.model.errors import Corrupt, Forbidden, NanoError, Unreachable, Untrusted
from nano.model.peers import Role
from tests.support.certificates import shut_out, utc_now
from tests.support.echo import ROLES, BytesCodec, EchoHandler, EchoStub
from tests.support.fabrics import Lab
from tests.support.heard_logs import heard_logs

BAD_CERTIFICATE = 0x100 + 42


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


class _StockClient(QuicConnectionProtocol):
    """aioquic's own client, which notes why it was turned away."""

    ended: ConnectionTerminated | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            self.ended = event


async def test_a_client_without_a_certificate_is_turned_away(lab: Lab) -> None:
    async with lab.join(Role.CELL, "c1") as cell:
        configuration = QuicConfiguration(
            alpn_protocols=["h3"], server_name=lab.identity(Role.CELL, "c1").dns_name
        )
        configuration.load_verify_locations(cafile=str(lab.authority.ca_file))
        host, port = cell.address[:2]
        async with connect(host, port, configuration=configuration, create_protocol=_StockClient) as client:
            await asyncio.wait_for(client.wait_closed(), 5)
            assert isinstance(client, _StockClient)
            assert client.ended is not None
            assert client.ended.error_code == BAD_CERTIFICATE
            assert "no certificate" in client.ended.reason_phrase


async def _call(identity: Identity, peers: dict[str, str], name: str) -> None:
    config = FabricConfig(host="127.0.0.1", multicast=False, peers=peers)
    async with Fabric.join(config, identity, codec=BytesCodec()) as fabric:
        await EchoStub(fabric.channel(Role.CELL, name)).repeat(b"x", timeout=2)


async def test_a_peer_of_another_zone_is_neither_called_nor_served(lab: Lab, tmp_path: Path) -> None:
    other = Lab(tmp_path / "other")
    handler = EchoHandler()
    async with lab.join(Role.CELL, "c1") as cell:
        cell.serve([handler], ROLES)
        with pytest.raises(Untrusted):
            await _call(other.identity(Role.SCHEDULER, "s1"), lab.addresses, "c1")
        assert cell.links == []


async def test_a_server_that_trusts_the_client_not_tells_why(lab: Lab, tmp_path: Path) -> None:
    """The client's own checks pass: it trusts the server's authority, but shows a certificate of another."""
    foreign = Lab(tmp_path / "other").identity(Role.SCHEDULER, "s1")
    mixed = Identity(
        foreign.zone,
        foreign.role,
        foreign.id,
        foreign.certificate_file,
        foreign.key_file,
        lab.authority.ca_file,
    )
    mixed = Identity(lab.authority.zone.id, *(getattr(mixed, name) for name in Identity.__slots__[1:]))
    async with lab.join(Role.CELL, "c1") as cell:
        cell.serve([EchoHandler()], ROLES)
        with pytest.raises((Untrusted, Unreachable), match="authority"):
            await _call(mixed, lab.addresses, "c1")


async def test_another_peer_at_the_address_is_not_taken_for_the_one_that_was_called(lab: Lab) -> None:
    async with lab.join(Role.CELL, "c1") as cell:
        cell.serve([EchoHandler()], ROLES)
        peers = {"cell/c2": lab.addresses["cell/c1"]}
        with pytest.raises(Untrusted):
            await _call(lab.identity(Role.SCHEDULER, "s1"), peers, "c2")


async def test_a_certificate_that_has_ended_is_refused(lab: Lab) -> None:
    def in_a_month() -> datetime:
        return utc_now() + timedelta(days=30)

    config = FabricConfig(host="127.0.0.1", multicast=False)
    async with Fabric.join(
        config, lab.identity(Role.CELL, "c1"), codec=BytesCodec(), clock=in_a_month
    ) as cell:
        cell.serve([EchoHandler()], ROLES)
        peers = {"cell/c1": "{}:{}".format(*cell.address)}
        with pytest.raises(Untrusted, match="ended"):
            await _call(lab.identity(Role.SCHEDULER, "s1"), peers, "c1")


async def test_a_key_that_is_shut_out_loses_its_links_and_gets_no_new_one(lab: Lab) -> None:
    async with lab.echo() as (handler, stub, cell, scheduler):
        assert await stub.repeat(b"x") == b"x"
        (link,) = scheduler.links
        shut_out(lab.authority, lab.known["cell/c1"], lab.known["scheduler/s1"])
        cell.renewed(lab.known["cell/c1"])
        await asyncio.wait_for(link.wait_closed(), 5)
        with pytest.raises((Forbidden, Unreachable)):
            await stub.who_am_i(timeout=2)
        assert handler.callers == []
        shut_out(lab.authority, lab.known["cell/c1"])
        cell.renewed(lab.known["cell/c1"])
        assert await stub.repeat(b"x", timeout=2) == b"x"


async def test_a_key_that_is_shut_out_at_the_moment_at_which_its_link_comes_up_has_none(lab: Lab) -> None:
    """The news of a link comes before whoever dialled it has it in hand."""
    async with lab.echo() as (_, stub, _, scheduler):
        own = lab.known["scheduler/s1"]
        shut_out(lab.authority, own, lab.known["cell/c1"])

        async def shut_out_when_it_joins() -> None:
            async for event in scheduler.events():
                if event.news is News.JOINED:
                    scheduler.renewed(own)
                    return

        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(shut_out_when_it_joins())
            with pytest.raises(NanoError):
                await stub.who_am_i(timeout=5)
        assert not any(each.is_up for each in scheduler.links)


async def test_a_key_that_is_shut_out_is_not_called_either(lab: Lab) -> None:
    async with lab.echo() as (_, stub, cell, scheduler):
        assert await stub.repeat(b"x") == b"x"
        shut_out(lab.authority, lab.known["scheduler/s1"], lab.known["cell/c1"])
        scheduler.renewed(lab.known["scheduler/s1"])
        with pytest.raises(Untrusted, match="was removed from the zone"):
            await stub.repeat(b"x", timeout=2)
        assert cell.links == []


async def test_who_was_shut_out_stays_so_over_a_restart_of_the_peer(lab: Lab) -> None:
    removed, cell = lab.identity(Role.GATEWAY, "g1"), lab.identity(Role.CELL, "c1")
    shut_out(lab.authority, cell, removed)
    config = FabricConfig(host="127.0.0.1", multicast=False)
    for _ in range(2):
        async with Fabric.join(config, cell, codec=BytesCodec()) as fabric:
            fabric.serve([EchoHandler()], ROLES)
            peers = {"cell/c1": "{}:{}".format(*fabric.address)}
            with pytest.raises((Untrusted, Unreachable), match="removed"):
                await _call(removed, peers, "c1")
            await _call(lab.identity(Role.GATEWAY, "g2"), peers, "c1")


async def test_who_is_turned_away_is_not_dialled_in_a_loop(lab: Lab) -> None:
    """The side that dials sees its link come up before the other side has judged its certificate."""
    loop = asyncio.get_running_loop()
    async with lab.join(Role.CELL, "c1") as cell:
        cell.serve([EchoHandler()], ROLES)
        scheduler = lab.known["scheduler/s1"] = lab.identity(Role.SCHEDULER, "s1")
        shut_out(lab.authority, lab.known["cell/c1"], scheduler)
        cell.renewed(lab.known["cell/c1"])
        config = FabricConfig(host="127.0.0.1", multicast=False, peers=lab.addresses)
        with heard_logs() as logs:
            async with Fabric.join(config, scheduler, codec=BytesCodec()) as fabric:
                began = loop.time()
                fabric.keep_linked(Role.CELL)
                await logs.until(lambda line: line["event"] == "link.refused", 10, count=3)
                assert loop.time() - began >= 0.25 + 0.5


async def test_what_strangers_cause_in_one_fabric_is_no_reason_to_be_silent_in_another(lab: Lab) -> None:
    stranger = lab.identity(Role.SCHEDULER, "s1")
    async with lab.join(Role.CELL, "c1") as one, lab.join(Role.CELL, "c2") as other:
        for fabric, name in ((one, "c1"), (other, "c2")):
            fabric.serve([EchoHandler()], ROLES)
            shut_out(lab.authority, lab.known[f"cell/{name}"], stranger)
            fabric.renewed(lab.known[f"cell/{name}"])
        with heard_logs() as logs:
            for name in ["c1"] * (LINES + 1) + ["c2"]:
                with pytest.raises((Untrusted, Unreachable), match="removed"):
                    await _call(stranger, lab.addresses, name)
        assert len(logs.events("link.refused")) == LINES + 1


async def test_a_file_of_removals_that_cannot_be_read_lets_nothing_be_served(lab: Lab) -> None:
    cell = lab.identity(Role.CELL, "c1")
    cell.trust_file.write_text("{")
    with pytest.raises(Corrupt, match=r"trust\.json cannot be read"):
        async with Fabric.join(FabricConfig(host="127.0.0.1", multicast=False), cell):
            pass


async def test_a_renewed_certificate_is_shown_on_new_links_while_old_ones_go_on(lab: Lab) -> None:
    async with lab.echo() as (_, stub, cell, scheduler):
        assert await stub.repeat(b"x") == b"x"
        (old,) = scheduler.links
        before = old.quic.peer_certificate
        cell.renewed(lab.identity(Role.CELL, "c1"))
        assert await stub.repeat(b"still on the old one") == b"still on the old one"
        assert scheduler.links == [old]
        old.close()
        assert await stub.repeat(b"on a new one") == b"on a new one"
        (new,) = scheduler.links
        after = new.quic.peer_certificate
        assert before is not None
        assert after is not None
        assert before.serial_number != after.serial_number
