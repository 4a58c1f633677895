"""A client that is not aioquic calls our services: ngtcp2 and nghttp3, with a certificate of the zone.

What it can of gRPC: calls with one message there and any number back. It sends its whole request before it
reads, so that streams of messages to us are not among it.
"""

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from nano.contracts.nano import v1
from nano.fabric.bulk.bodies import BulkBody, BulkInfo, BulkRequest
from nano.fabric.calls.caller import caller
from nano.fabric.calls.codec import MessageCodec
from nano.fabric.calls.status import Detail, status_of
from nano.fabric.fabric import Fabric
from nano.fabric.http3.framing import MESSAGE_LIMIT_BYTES
from nano.model.errors import BY_CODE, NotFound
from nano.model.peers import Role
from services.addresspool.rpc import ROLES as ADDRESS_ROLES
from services.gateway.cursor import Book
from services.scheduler.rpc import ROLES as SCHEDULER_ROLES
from tests.support.certificates import issue, make_zone
from tests.support.echo import ECHO, ROLES, EchoHandler, domain_error
from tests.support.fabrics import Lab
from tests.support.foreign_client import GRPC, Fields, ForeignClient, Refused, framed
from tests.support.zone import zone

BLOB = hashlib.shake_128(b"blob").digest(3_000_000)
CELLS_ONLY = {(method, "/"): frozenset({Role.SCHEDULER}) for method in ("GET", "HEAD", "PUT")}

OK, INVALID, DEADLINE, DENIED, EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 3, 4, 7, 8, 12, 13
"""gRPC's statuses."""


class Bodies:
    """One resource to read, and all that was written."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    async def head(self, request: BulkRequest) -> BulkInfo:
        return BulkInfo(len(BLOB), {"nano-caller": str(caller().peer)})

    async def get(self, request: BulkRequest) -> BulkBody:
        if request.path != "/blob":
            raise NotFound(f"there is no {request.path}", subject=request.path)
        return BulkBody(BulkInfo(len(BLOB)), self._pieces(request.offset))

    async def put(self, request: BulkRequest, chunks: AsyncIterator[bytes]) -> Mapping[str, str]:
        self.stored[request.path] = b"".join([chunk async for chunk in chunks])
        return {"nano-size": str(len(self.stored[request.path]))}

    async def _pieces(self, offset: int) -> AsyncIterator[bytes]:
        for start in range(offset, len(BLOB), 65_536):
            yield BLOB[start : start + 65_536]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def handler() -> EchoHandler:
    return EchoHandler()


@pytest.fixture
async def cell(lab: Lab, handler: EchoHandler) -> AsyncIterator[Fabric]:
    async with lab.join(Role.CELL, "c1") as cell:
        cell.serve([handler], ROLES)
        yield cell


@pytest.fixture
def client(lab: Lab, cell: Fabric) -> ForeignClient:
    return _client(lab, cell, Role.SCHEDULER)


def _client(lab: Lab, server: Fabric, role: Role) -> ForeignClient:
    return ForeignClient(server.address, lab.identity(Role.CELL, "c1"), lab.identity(role, "foreign"))


async def test_a_call_is_answered(client: ForeignClient) -> None:
    answer = await client.call(ECHO + "Repeat", b"hello")
    assert (answer.status, answer.grpc_status, answer.messages) == (200, OK, [b"hello"])
    assert answer.fields["content-type"].startswith("application/grpc")


async def test_the_handler_knows_who_calls_and_for_which_task(
    client: ForeignClient, handler: EchoHandler
) -> None:
    answer = await client.call(ECHO + "WhoAmI", fields=(("nano-task", "task-5"), ("grpc-timeout", "30S")))
    assert answer.messages == [b"scheduler/foreign"]
    (found,) = handler.callers
    assert found.task == "task-5"
    assert found.deadline is not None
    assert 0 < found.deadline.time_remaining() <= 30


@pytest.mark.parametrize("kind", sorted(BY_CODE))
async def test_each_error_comes_as_a_status_with_its_fields(
    client: ForeignClient, handler: EchoHandler, kind: str
) -> None:
    handler.error = error = domain_error(BY_CODE[kind])
    answer = await client.call(ECHO + "Fail")
    assert (answer.status, answer.grpc_status) == (200, status_of(error).value)
    detail = answer.detail
    assert detail.code == error.code
    assert (detail.field, detail.subject, detail.retry_after_s) == (
        error.field,
        error.subject,
        error.retry_after_s,
    )


async def test_a_defect_and_a_method_that_is_not_there_have_their_statuses(
    client: ForeignClient, handler: EchoHandler
) -> None:
    handler.error = RuntimeError("the password is hunter2")
    answer = await client.call(ECHO + "Fail")
    assert answer.grpc_status == INTERNAL
    assert "hunter2" not in answer.fields["grpc-message"]
    assert (await client.call(ECHO + "Missing")).grpc_status == UNIMPLEMENTED


async def test_a_deadline_ends_the_handler(client: ForeignClient, handler: EchoHandler) -> None:
    answer = await client.call(ECHO + "Wait", fields=(("grpc-timeout", "200m"),))
    assert answer.grpc_status == DEADLINE
    await asyncio.wait_for(handler.stopped.wait(), 10)


async def test_a_deadline_that_has_passed_is_answered_without_a_handler(
    client: ForeignClient, handler: EchoHandler
) -> None:
    answer = await client.call(ECHO + "WhoAmI", fields=(("grpc-timeout", "0n"),))
    assert answer.grpc_status == DEADLINE
    assert handler.callers == []


@pytest.mark.parametrize("size", [0, 1, 100_000, MESSAGE_LIMIT_BYTES])
async def test_messages_of_every_size_pass(client: ForeignClient, size: int) -> None:
    message = hashlib.shake_128(b"m").digest(size)
    assert (await client.call(ECHO + "Repeat", message)).messages == [message]


async def test_a_message_above_the_limit_is_refused(client: ForeignClient) -> None:
    answer = await client.call(ECHO + "Repeat", bytes(MESSAGE_LIMIT_BYTES + 1))
    assert answer.grpc_status == EXHAUSTED


async def test_a_compressed_message_is_refused(client: ForeignClient) -> None:
    answer = await client.ask("POST", ECHO + "Repeat", GRPC, struct.pack(">BI", 1, 3) + b"abc")
    assert answer.grpc_status == INTERNAL


async def test_several_messages_in_one_request_are_read(client: ForeignClient) -> None:
    """A client's stream, as far as libcurl has one: all at once."""
    body = b"".join(framed(bytes(size)) for size in (1, 20, 300))
    assert (await client.ask("POST", ECHO + "Total", GRPC, body)).messages == [b"321"]
    assert (await client.ask("POST", ECHO + "Chat", GRPC, framed(b"a") + framed(b"b"))).messages == [
        b"A",
        b"B",
    ]


async def test_a_stream_of_answers_comes_whole(client: ForeignClient) -> None:
    answer = await client.call(ECHO + "Count", b"5000")
    assert answer.messages == [str(number).encode() for number in range(5000)]
    assert answer.grpc_status == OK


async def test_an_answer_is_read_as_it_comes(client: ForeignClient, handler: EchoHandler) -> None:
    async with client.stream(ECHO + "Wait") as parts:
        assert await anext(parts) == framed(b"started")
        assert not handler.stopped.is_set()
    await asyncio.wait_for(handler.stopped.wait(), 10)


async def test_a_reader_that_stops_holds_the_sender(client: ForeignClient, handler: EchoHandler) -> None:
    """What is under way, in windows and marks of either side, is not without bounds."""
    async with client.stream(ECHO + "Flood") as parts:
        await anext(parts)
        await handler.started.wait()
        seen = -1
        while seen != handler.produced:  # until it has stood still while other calls went to and fro
            seen = handler.produced
            for _ in range(5):
                await client.call(ECHO + "Repeat", b"round trip")
        assert handler.produced * 100_000 < 32 * 1024 * 1024
    await asyncio.wait_for(handler.stopped.wait(), 20)


async def test_many_at_once(client: ForeignClient) -> None:
    answers = await asyncio.gather(*(client.call(ECHO + "Repeat", str(n).encode()) for n in range(16)))
    assert [answer.messages for answer in answers] == [[str(n).encode()] for n in range(16)]


async def test_no_row_for_a_role_is_no_call(lab: Lab, cell: Fabric) -> None:
    client = _client(lab, cell, Role.SCHEDULER)
    answer = await client.call(ECHO + "Secret")
    assert answer.grpc_status == DENIED
    assert answer.detail.code == "forbidden"
    assert answer.detail.subject == "scheduler/foreign"


async def test_without_a_certificate_nothing_is_answered(
    lab: Lab, cell: Fabric, handler: EchoHandler
) -> None:
    client = ForeignClient(cell.address, lab.identity(Role.CELL, "c1"), None)
    with pytest.raises(Refused):
        await client.call(ECHO + "WhoAmI")
    assert handler.callers == []


async def test_a_strangers_certificate_is_refused(
    lab: Lab, cell: Fabric, handler: EchoHandler, tmp_path: Path
) -> None:
    stranger = issue(make_zone(tmp_path / "elsewhere"), Role.SCHEDULER, "foreign")
    client = ForeignClient(cell.address, lab.identity(Role.CELL, "c1"), stranger)
    with pytest.raises(Refused):
        await client.call(ECHO + "WhoAmI")
    assert handler.callers == []


async def test_a_certificate_that_has_run_out_is_refused(
    lab: Lab, cell: Fabric, handler: EchoHandler
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=30)
    old = issue(lab.authority, Role.SCHEDULER, "old", now=long_ago)
    client = ForeignClient(cell.address, lab.identity(Role.CELL, "c1"), old)
    with pytest.raises(Refused):
        await client.call(ECHO + "WhoAmI")
    assert handler.callers == []


# Bodies


@pytest.fixture
def bodies(cell: Fabric) -> Bodies:
    made = Bodies()
    cell.serve_bulk(made, CELLS_ONLY)
    return made


async def _get(
    client: ForeignClient, *fields: tuple[str, str], path: str = "/blob"
) -> tuple[int, bytes, Fields]:
    answer = await client.ask("GET", path, fields)
    return answer.status, answer.body, tuple(answer.fields.items())


async def test_a_body_comes_whole(client: ForeignClient, bodies: Bodies) -> None:
    status, body, fields = await _get(client)
    assert (status, body) == (200, BLOB)
    assert dict(fields)["content-length"] == str(len(BLOB))


async def test_a_body_goes_on_from_an_offset(client: ForeignClient, bodies: Bodies) -> None:
    status, body, fields = await _get(client, ("range", "bytes=1000000-"))
    assert (status, body) == (206, BLOB[1_000_000:])
    assert dict(fields)["content-range"] == f"bytes 1000000-2999999/{len(BLOB)}"


async def test_a_range_that_is_not_spoken_is_refused(client: ForeignClient, bodies: Bodies) -> None:
    status, body, fields = await _get(client, ("range", "bytes=5-9"))
    assert status == 400
    assert b"range" in body
    assert msgspec.json.decode(dict(fields)["nano-error"], type=Detail).field == "range"


async def test_what_is_not_there_is_not_found(client: ForeignClient, bodies: Bodies) -> None:
    status, body, _ = await _get(client, path="/nothing")
    assert (status, body) == (404, b"there is no /nothing")


async def test_a_head_has_size_and_fields_and_no_body(client: ForeignClient, bodies: Bodies) -> None:
    answer = await client.ask("HEAD", "/blob")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.fields["content-length"] == str(len(BLOB))
    assert answer.fields["nano-caller"] == "scheduler/foreign"


@pytest.mark.parametrize("size", [0, 10, 2_000_000])
async def test_a_body_is_taken_in(client: ForeignClient, bodies: Bodies, size: int) -> None:
    answer = await client.ask("PUT", "/new", body=BLOB[:size])
    assert answer.status == 200
    assert answer.fields["nano-size"] == str(size)
    assert bodies.stored == {"/new": BLOB[:size]}


async def test_other_roles_get_no_body(lab: Lab, cell: Fabric, bodies: Bodies) -> None:
    answer = await _client(lab, cell, Role.GATEWAY).ask("GET", "/blob")
    assert answer.status == 403
    assert bodies.stored == {}


async def test_other_methods_are_not_offered(client: ForeignClient, bodies: Bodies) -> None:
    assert (await client.ask("DELETE", "/blob")).status == 403, "no row, nobody"


# The services themselves, with their own handlers, messages and tables of roles


async def test_the_scheduler_answers_a_foreign_gateway(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", MessageCodec())
    async with zone(tmp_path / "zone", is_fed=False) as whole, lab.join(Role.SCHEDULER, "s1") as fabric:
        fabric.serve([whole.stubs[Book.SCHEDULER]._handlers], SCHEDULER_ROLES)  # type: ignore[list-item]
        server = lab.identity(Role.SCHEDULER, "s1")
        client = ForeignClient(fabric.address, server, lab.identity(Role.GATEWAY, "foreign"))

        answer = await client.call("/nano.v1.Scheduler/PutPool", bytes(v1.Pool(name="green", enabled=True)))
        assert answer.grpc_status == OK, answer.fields
        (reply,) = answer.messages
        assert v1.SchedulerReply.parse(reply).revision > 0
        assert "green" in whole.scheduler.book.pools

        refused = await client.call("/nano.v1.Scheduler/PutPool", bytes(v1.Pool(name="no/such name")))
        assert (refused.grpc_status, refused.detail.code) == (INVALID, "invalid")
        garbage = await client.call("/nano.v1.Scheduler/PutPool", b"\x0a\xff\xff")
        assert garbage.grpc_status not in {OK, INTERNAL}

        async with client.stream("/nano.v1.Scheduler/Watch") as parts:
            begun = b""
            while b"green" not in begun:
                begun += await anext(parts)

        cell = ForeignClient(fabric.address, server, lab.identity(Role.CELL, "c9"))
        denied = await cell.call("/nano.v1.Scheduler/PutPool", bytes(v1.Pool(name="red")))
        assert denied.grpc_status == DENIED
        assert "red" not in whole.scheduler.book.pools


async def test_the_address_pool_answers_a_foreign_gateway(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", MessageCodec())
    async with zone(tmp_path / "zone", is_fed=False) as whole, lab.join(Role.ADDRESSPOOL, "a1") as fabric:
        fabric.serve([whole.stubs[Book.ADDRESSPOOL]._handlers], ADDRESS_ROLES)  # type: ignore[list-item]
        server = lab.identity(Role.ADDRESSPOOL, "a1")
        client = ForeignClient(fabric.address, server, lab.identity(Role.GATEWAY, "foreign"))
        pool = v1.AddressPool(name="lan", gateway="10.0.0.1", dns=["10.0.0.53"], provider="dhcp")
        assert (await client.call("/nano.v1.AddressPools/CreatePool", bytes(pool))).grpc_status == OK
        again = await client.call("/nano.v1.AddressPools/CreatePool", bytes(pool))
        assert again.detail.code == "exists"
