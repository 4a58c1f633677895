"""Whatever a peer sends, a server answers, refuses or closes; it never hangs, and others are served on."""

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpclib.exceptions import StreamTerminatedError
from h2.exceptions import StreamClosedError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nano.fabric.http3.exchanges import LinkLost
from nano.fabric.links.dialled import Purpose
from nano.model.errors import NanoError
from nano.model.peers import Peer, Role
from tests.support.echo import ROLES, EchoHandler, EchoStub
from tests.support.fabrics import Lab

HEAD = [(":method", "POST"), (":scheme", "https"), (":authority", "c1"), (":path", "/test.Echo/Repeat")]
GRPC = [*HEAD, ("te", "trailers"), ("content-type", "application/grpc")]
CELL = Peer(Role.CELL, "c1")

_value = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
_headers = st.lists(
    st.tuples(
        st.sampled_from(
            [
                ":method",
                ":path",
                "content-type",
                "te",
                "grpc-timeout",
                "x-bin",
                "nano-task",
                "content-length",
                "range",
                "Upper",
                "grpc-encoding",
            ]
        ),
        st.one_of(
            _value, st.sampled_from(["application/grpc", "trailers", "GET", "PUT", "1S", "99999999H", "/"])
        ),
    ),
    max_size=6,
)
_body = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda flag, size, rest: struct.pack(">BI", flag, size) + rest,
        st.integers(0, 255),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=20),
    ),
)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(tmp_path)
    async with lab.join(Role.CELL, "c1") as cell:
        cell.serve([EchoHandler()], ROLES)
        yield lab


async def _ask(lab: Lab, headers: list[tuple[str, str]], body: bytes) -> list[tuple[str, str]] | None:
    """Send a request as it is; gives the last header block of the answer, None if there was none."""
    async with lab.join(Role.SCHEDULER, "s1") as scheduler:
        stub = EchoStub(scheduler.channel(Role.CELL, "c1"))
        link = await scheduler._links.get(CELL, Purpose.CALLS)
        stream = link.exchanges.create_stream()
        try:
            await stream.send_request(headers)
            await stream.send_data(body, end_stream=True)
            while await stream.receive_some():
                pass
            answer = stream.trailers or stream.headers
        except (StreamTerminatedError, StreamClosedError, LinkLost):
            answer = None
        finally:
            stream.release()
        assert await stub.repeat(b"served on", timeout=5) == b"served on"
        return answer


@given(headers=_headers, body=_body, is_grpc=st.booleans())
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_any_request_is_answered_or_refused(
    lab: Lab, headers: list[tuple[str, str]], body: bytes, is_grpc: bool
) -> None:
    base = GRPC if is_grpc else HEAD
    own = {name for name, _ in headers}
    mixed = [pair for pair in base if pair[0] not in own]
    pseudo = [pair for pair in (*mixed, *headers) if pair[0].startswith(":")]
    rest = [pair for pair in (*mixed, *headers) if not pair[0].startswith(":")]
    await asyncio.wait_for(_ask(lab, [*pseudo, *rest], body), 10)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (struct.pack(">BI", 1, 3) + b"abc", "13"),
        (struct.pack(">BI", 0, 2**32 - 1), "8"),
    ],
)
async def test_a_message_that_may_not_be_read_is_refused_with_a_status(
    lab: Lab, body: bytes, status: str
) -> None:
    answer = await asyncio.wait_for(_ask(lab, GRPC, body), 10)
    assert answer is not None
    assert dict(answer)["grpc-status"] == status


@pytest.mark.parametrize("body", [b"\x00\x00", struct.pack(">BI", 0, 10) + b"abc", b""])
async def test_a_message_that_ends_early_is_no_success(lab: Lab, body: bytes) -> None:
    answer = await asyncio.wait_for(_ask(lab, GRPC, body), 10)
    assert answer is None or dict(answer).get("grpc-status") != "0"


async def test_metadata_that_cannot_be_read_names_what_is_wrong(lab: Lab) -> None:
    answer = await asyncio.wait_for(_ask(lab, [*GRPC, ("x-bin", "\x7f")], b""), 10)
    assert answer is None or dict(answer).get("grpc-status") != "0"


async def test_stray_datagrams_do_not_disturb_a_listener(lab: Lab) -> None:
    host, _, port = lab.addresses["cell/c1"].rpartition(":")
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=(host, int(port))
    )
    for data in (b"", b"\x00", b"\xff" * 1300, b"\xc0\x00\x00\x00\x01\x08" + bytes(1300), bytes(60_000)):
        transport.sendto(data)
    try:
        async with lab.join(Role.SCHEDULER, "s1") as scheduler:
            stub = EchoStub(scheduler.channel(Role.CELL, "c1"))
            assert await stub.repeat(b"served", timeout=5) == b"served"
    except NanoError as error:
        pytest.fail(str(error))
    finally:
        transport.close()
