"""Peers without a certificate reach the one call that is open to them, and nothing else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from nano.fabric.bulk.bodies import BulkBody, BulkInfo, BulkRequest
from nano.fabric.bulk.client import BulkClient
from nano.fabric.calls.channel import Channel
from nano.fabric.fabric import Fabric
from nano.fabric.identity.identity import authority_fingerprint, fingerprint_of
from nano.fabric.joining import applicants
from nano.fabric.joining.applicant import ApplicantCredentials, linked
from nano.fabric.links import ends
from nano.fabric.packets.udp import bind
from nano.model.errors import Exhausted, Forbidden, NotFound, Unreachable, Untrusted
from nano.model.peers import Peer, Role
from tests.support.certificates import shut_out, utc_now
from tests.support.echo import ECHO, ROLES, BytesCodec, EchoHandler, EchoStub
from tests.support.fabrics import Lab

OPEN_TO_APPLICANTS = ROLES | {
    ECHO + name: frozenset({Role.APPLICANT}) for name in ("WhoAmI", "Wait", "Repeat")
}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@contextlib.asynccontextmanager
async def door(lab: Lab) -> AsyncIterator[tuple[EchoHandler, Fabric]]:
    handler = EchoHandler()
    async with lab.join(Role.SCHEDULER, "s1") as scheduler:
        scheduler.admit_applicants()
        scheduler.serve([handler], OPEN_TO_APPLICANTS)
        yield handler, scheduler


def anybody(_: x509.Certificate) -> None:
    """Whatever authority it is."""


def stranger(key: ec.EllipticCurvePrivateKey | None = None) -> ApplicantCredentials:
    return ApplicantCredentials(key or ec.generate_private_key(ec.SECP256R1()), anybody, utc_now)


@contextlib.asynccontextmanager
async def applying(at: Fabric, credentials: ApplicantCredentials) -> AsyncIterator[EchoStub]:
    async with linked(at.address, credentials) as channel:
        yield EchoStub(Channel(channel._authority, channel._connect, BytesCodec()))


async def test_a_stranger_is_known_by_its_key_and_sees_whose_zone_it_is(lab: Lab) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    credentials = stranger(key)
    async with door(lab) as (handler, scheduler), applying(scheduler, credentials) as stub:
        await stub.who_am_i(timeout=5)
        assert [each.peer for each in handler.callers] == [
            Peer(Role.APPLICANT, fingerprint_of(key.public_key()))
        ]
        assert handler.callers[0].fingerprint == fingerprint_of(key.public_key())
        assert credentials.authority is not None
        assert authority_fingerprint(credentials.authority) == lab.authority.fingerprint
        assert scheduler.peers.all(Role.APPLICANT) == []


async def test_what_is_not_open_to_applicants_is_forbidden(lab: Lab) -> None:
    async with door(lab) as (_, scheduler), applying(scheduler, stranger()) as stub:
        for method in ("Count", "Total", "Chat", "Fail", "Flood", "Ignore", "Secret"):
            with pytest.raises(Forbidden, match="may not call"):
                await stub._unary(ECHO + method, b"", timeout=5)


async def test_only_a_fabric_that_was_told_to_takes_strangers(lab: Lab) -> None:
    async with lab.join(Role.SCHEDULER, "s1") as scheduler:
        with pytest.raises((Untrusted, Unreachable)):
            async with applying(scheduler, stranger()) as stub:
                await stub.who_am_i(timeout=5)


async def test_nothing_is_said_to_a_scheduler_of_an_authority_that_is_not_accepted(lab: Lab) -> None:
    def nobody(authority: x509.Certificate) -> None:
        raise Untrusted(f"not {authority_fingerprint(authority)[:8]}")

    credentials = ApplicantCredentials(ec.generate_private_key(ec.SECP256R1()), nobody, utc_now)
    async with door(lab) as (handler, scheduler):
        with pytest.raises(Untrusted, match=f"not {lab.authority.fingerprint[:8]}"):
            async with applying(scheduler, credentials):
                pass
        assert handler.callers == []
        assert credentials.authority is None


async def test_who_is_no_scheduler_is_not_taken_for_one(lab: Lab) -> None:
    async with lab.join(Role.CELL, "c1") as cell:
        cell.admit_applicants()
        with pytest.raises(Untrusted, match="expected"):
            async with applying(cell, stranger()):
                pass


async def test_an_applicant_has_one_call_at_a_time(lab: Lab) -> None:
    async with door(lab) as (handler, scheduler), applying(scheduler, stranger()) as stub:
        async with asyncio.TaskGroup() as jobs:
            waiting = jobs.create_task(_wait(stub))
            await handler.started.wait()
            with pytest.raises(Exhausted, match="one call at a time"):
                await stub.repeat(b"x", timeout=5)
            waiting.cancel()
        await handler.stopped.wait()


async def _wait(stub: EchoStub) -> None:
    async for _ in stub.wait():
        pass


async def test_nobody_may_send_much_before_it_is_known_and_members_more_from_their_first_call_on(
    lab: Lab,
) -> None:
    async with door(lab) as (_, scheduler), linked(scheduler.address, stranger()) as channel:
        await EchoStub(Channel("s", channel._connect, BytesCodec())).who_am_i(timeout=5)
        assert (await channel._connect()).quic._remote_max_data == ends.UNKNOWN_BYTES
        async with lab.join(Role.GATEWAY, "g1") as gateway:
            way = gateway.channel(Role.SCHEDULER, "s1")
            link = await way._connect()
            await link.ping()
            assert link.quic._remote_max_data >= ends.CALL_WINDOWS.connection_bytes


async def test_too_many_applicants_cost_the_oldest_its_link_and_no_member_anything(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applicants, "LINK_LIMIT", 3)
    async with door(lab) as (_, scheduler), contextlib.AsyncExitStack() as up:
        stubs = [await up.enter_async_context(applying(scheduler, stranger())) for _ in range(4)]
        for stub in stubs[1:]:
            await stub.who_am_i(timeout=5)
        with pytest.raises(Unreachable, match="3 others ask to be let in"):
            await stubs[0].who_am_i(timeout=5)
        assert sum(link.is_up for link in scheduler.links) == 3
        async with lab.join(Role.GATEWAY, "g1") as gateway:
            stub = EchoStub(gateway.channel(Role.SCHEDULER, "s1"))
            assert [each async for each in stub.count(2)] == [b"0", b"1"]


async def test_who_comes_again_and_again_costs_no_other_host_its_link(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applicants, "LINK_LIMIT", 3)
    async with door(lab) as (_, scheduler), contextlib.AsyncExitStack() as up:
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(ends, "bind", lambda _host, port: bind("127.0.0.9", port))
            honest = await up.enter_async_context(applying(scheduler, stranger()))
        for _ in range(6):
            stub = await up.enter_async_context(applying(scheduler, stranger()))
            await stub.who_am_i(timeout=5)
        assert (await honest.who_am_i(timeout=5)).startswith(b"applicant/")
        hosts = [link.address[0] for link in scheduler.links if link.is_up]
        assert sorted(hosts) == ["127.0.0.1", "127.0.0.1", "127.0.0.9"]


async def test_an_applicant_that_asks_nothing_is_closed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applicants, "IDLE_S", 0.2)
    async with door(lab) as (_, scheduler), applying(scheduler, stranger()) as stub:
        await stub.who_am_i(timeout=5)
        (link,) = scheduler.links
        async with asyncio.timeout(5):
            await link.wait_closed()


class _Forged:
    """Is asked by aioquic for its bytes alone."""

    def __init__(self, der: bytes) -> None:
        self._der = der

    def public_bytes(self, _: object) -> bytes:
        return self._der


class _Forger(ApplicantCredentials):
    """Shows a certificate of a version that there is not."""

    def configuration(self, **settings: Any) -> QuicConfiguration:
        made = super().configuration(**settings)
        assert made.certificate is not None
        der = made.certificate.public_bytes(Encoding.DER)
        made.certificate = _Forged(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", 1))
        return made


async def test_a_certificate_that_cannot_be_read_is_refused_and_no_defect(lab: Lab) -> None:
    forger = _Forger(ec.generate_private_key(ec.SECP256R1()), anybody, utc_now)
    with structlog.testing.capture_logs() as logs:
        async with door(lab) as (_, scheduler):
            with pytest.raises((Untrusted, Unreachable), match="version"):
                async with applying(scheduler, forger) as stub:
                    await stub.who_am_i(timeout=5)
    assert [log for log in logs if log["event"] == "link.defect"] == []


async def test_datagrams_of_applicants_are_nobodys_samples(lab: Lab) -> None:
    heard: list[bytes] = []
    async with door(lab) as (_, scheduler):
        scheduler.on_sample(lambda _, data: heard.append(data))
        async with linked(scheduler.address, stranger()) as channel:
            link = await channel._connect()
            assert link.send_datagram(b"sample")
            await EchoStub(Channel("s", channel._connect, BytesCodec())).who_am_i(timeout=5)
    assert heard == []


class _AnyBody:
    """Would take and give anything."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def head(self, request: BulkRequest) -> BulkInfo:
        self.asked.append(request.path)
        return BulkInfo(0, {})

    async def get(self, request: BulkRequest) -> BulkBody:
        self.asked.append(request.path)
        raise NotFound(request.path)

    async def put(self, request: BulkRequest, chunks: AsyncIterator[bytes]) -> Mapping[str, str]:
        self.asked.append(request.path)
        return {}


async def test_bodies_of_applicants_are_not_taken_in_whatever_the_table_says(lab: Lab) -> None:
    bodies = _AnyBody()
    table = {(method, "/"): frozenset(Role) for method in ("GET", "HEAD", "PUT")}
    async with door(lab) as (_, scheduler):
        scheduler.serve_bulk(bodies, table)
        async with linked(scheduler.address, stranger()) as channel:
            with pytest.raises(Unreachable):
                async for _ in BulkClient("s", channel._connect).get("/blob"):
                    pass
            await EchoStub(Channel("s", channel._connect, BytesCodec())).who_am_i(timeout=5)
    assert bodies.asked == []


async def test_a_key_that_was_shut_out_is_no_applicant(lab: Lab) -> None:
    removed = lab.identity(Role.CELL, "c1")
    key = load_pem_private_key(removed.key_file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    async with door(lab) as (handler, scheduler):
        shut_out(lab.authority, lab.known["scheduler/s1"], removed)
        scheduler.renewed(lab.known["scheduler/s1"])
        with pytest.raises((Untrusted, Unreachable), match="removed"):
            async with applying(scheduler, stranger(key)) as stub:
                await stub.who_am_i(timeout=5)
        assert handler.callers == []
