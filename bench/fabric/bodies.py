"""One large body, from a server to a client, in each way that we compare: what `bulk.py` and `paths.py` run.

The clients of each way answer a number of bytes with the seconds that they took to come; that of the fabric
also ("seconds", a number) with the bytes that came in so many.
"""

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpclib.client
import grpclib.server
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived
from betterproto2.grpclib.grpclib_client import ServiceStub
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

from bench.fabric.networks import Network, enter, within
from bench.fabric.sides import Pipe, tls
from nano.fabric.bulk.bodies import BulkBody, BulkInfo, BulkRequest
from nano.fabric.bulk.client import BulkClient
from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity.identity import Identity
from nano.model.peers import Role
from tests.support.echo import ROLES, BytesCodec, EchoHandler, EchoStub

PIECE = bytes(256 * 1024)
EVERYONE = frozenset(Role)
_URGENCY = 5
BULK_ROLES = {("GET", "/"): EVERYONE, ("PUT", "/"): EVERYONE, ("HEAD", "/"): EVERYONE}


class Blob:
    """As many bytes as the path says, made of one piece."""

    async def head(self, request: BulkRequest) -> BulkInfo:
        return BulkInfo(int(request.path[1:]))

    async def get(self, request: BulkRequest) -> BulkBody:
        return BulkBody(await self.head(request), pieces(int(request.path[1:])))

    async def put(self, request: BulkRequest, chunks: AsyncIterator[bytes]) -> dict[str, str]:
        size = sum([len(chunk) async for chunk in chunks])
        return {"nano-size": str(size), "nano-path": request.path}


async def pieces(size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, len(PIECE)):
        yield PIECE[: min(len(PIECE), size - start)]


def settle(network: Network, namespace: str | None, core: int) -> None:
    """Take this side's place on the network and on the machine."""
    enter(namespace)
    if network.is_far:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_URGENCY))
    else:
        os.sched_setaffinity(0, {core % (os.cpu_count() or 1)})


def started(network: Network, namespace: str | None, core: int, *command: str) -> tuple[str, ...]:
    """`command`, to run in the same way."""
    place = ("chrt", "--rr", str(_URGENCY)) if network.is_far else ("taskset", "--cpu-list", str(core))
    return within(namespace, *place, *command)


# the fabric


async def serve_fabric(pipe: Pipe, identity: Identity, network: Network, core: int = 0) -> None:
    settle(network, network.server, core)
    config = FabricConfig(multicast=False, drain_s=0.1)  # on every address, as services listen
    async with Fabric.join(config, identity, codec=BytesCodec()) as fabric:
        fabric.serve([EchoHandler()], ROLES)
        fabric.serve_bulk(Blob(), BULK_ROLES)
        pipe.say(fabric.address[1])
        await pipe.hear()


async def fetch_fabric(pipe: Pipe, identity: Identity, network: Network, port: int, core: int = 1) -> None:
    settle(network, network.client, core)
    config = FabricConfig(
        multicast=False, peers={"cell/c1": f"{network.host}:{port}"}, drain_s=0.1, host="0.0.0.0"
    )
    async with Fabric.join(config, identity, codec=BytesCodec()) as fabric:
        pipe.say(None)
        while (question := await pipe.hear()) is not None:
            client = fabric.bulk(Role.CELL, "c1")
            if isinstance(question, tuple):
                pipe.say(await _fetched_in(client, question[1]))
                continue
            began = time.perf_counter()
            async for _ in client.get(f"/{question}"):
                pass
            pipe.say(time.perf_counter() - began)


async def _fetched_in(client: BulkClient, seconds: float) -> int:
    """The bytes that came in so many seconds."""
    came = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for chunk in client.get(f"/{1 << 40}"):
                came += len(chunk)
    return came


# aioquic as it comes


class _Sender(QuicConnectionProtocol):
    """Answers a stream that says a number with as many bytes."""

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived) and event.end_stream:
            self._quic.send_stream_data(event.stream_id, bytes(int(event.data)), end_stream=True)
            self.transmit()


class _Getter(QuicConnectionProtocol):
    ended: asyncio.Future[None]

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived) and event.end_stream:
            self.ended.set_result(None)


def _stock(identity: Identity, *, is_client: bool, datagram_bytes: int | None) -> QuicConfiguration:
    """Its defaults; or, if told how large datagrams are, the windows that go with it."""
    configuration = QuicConfiguration(is_client=is_client, alpn_protocols=["bulk"], verify_mode=ssl.CERT_NONE)
    if datagram_bytes is not None:
        configuration.max_datagram_size = datagram_bytes
        configuration.max_data = configuration.max_stream_data = 16 << 20
    configuration.load_cert_chain(identity.certificate_file, identity.key_file)
    return configuration


async def serve_stock(pipe: Pipe, identity: Identity, network: Network, datagram_bytes: int | None) -> None:
    settle(network, network.server, 0)
    server = await serve(
        network.host,
        0,
        configuration=_stock(identity, is_client=False, datagram_bytes=datagram_bytes),
        create_protocol=_Sender,
    )
    transport = server._transport
    assert transport is not None
    pipe.say(transport.get_extra_info("sockname")[1])
    await pipe.hear()


async def fetch_stock(
    pipe: Pipe, identity: Identity, network: Network, port: int, datagram_bytes: int | None
) -> None:
    settle(network, network.client, 1)
    configuration = _stock(identity, is_client=True, datagram_bytes=datagram_bytes)
    async with connect(network.host, port, configuration=configuration, create_protocol=_Getter) as client:
        assert isinstance(client, _Getter)
        pipe.say(None)
        while (size := await pipe.hear()) is not None:
            client.ended = asyncio.get_running_loop().create_future()
            began = time.perf_counter()
            stream_id = client._quic.get_next_available_stream_id()
            client._quic.send_stream_data(stream_id, str(size).encode(), end_stream=True)
            client.transmit()
            await client.ended
            pipe.say(time.perf_counter() - began)


# grpclib on TLS/TCP


class _Pour:
    """A stream of messages of one piece each."""

    def __mapping__(self) -> dict[str, Handler]:
        return {"/bench.Pour/Get": Handler(self._get, Cardinality.UNARY_STREAM, bytes, bytes)}

    async def _get(self, call: Stream[bytes, bytes]) -> None:
        async for piece in pieces(int(await call.recv_message() or b"0")):
            await call.send_message(piece)


class _PourStub(ServiceStub):
    def get(self, size: int) -> AsyncIterator[bytes]:
        found: Any = self._unary_stream("/bench.Pour/Get", str(size).encode(), bytes)  # type: ignore[arg-type]
        return found  # type: ignore[no-any-return]


async def serve_grpclib(pipe: Pipe, identity: Identity, network: Network) -> None:
    settle(network, network.server, 0)
    server = grpclib.server.Server([_Pour()], codec=BytesCodec())
    await server.start(network.host, 0, ssl=tls(identity, server=True))
    assert server._server is not None
    pipe.say(server._server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]
    await pipe.hear()
    server.close()


async def fetch_grpclib(pipe: Pipe, identity: Identity, network: Network, port: int) -> None:
    settle(network, network.client, 1)
    context = tls(identity, server=False)
    async with grpclib.client.Channel(network.host, port, ssl=context, codec=BytesCodec()) as channel:
        stub = _PourStub(channel)
        pipe.say(None)
        while (size := await pipe.hear()) is not None:
            began = time.perf_counter()
            async for _ in stub.get(size):
                pass
            pipe.say(time.perf_counter() - began)


# HTTPS, by nginx and curl

NGINX_PORT = 8443

_NGINX = """daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log; user root;
events {{ }} http {{ access_log off; sendfile on; client_body_temp_path {folder}; proxy_temp_path {folder};
fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder}; server {{ listen {host}:{port}
ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; root {folder}; }} }}
"""


@contextlib.contextmanager
def nginx(identity: Identity, network: Network, folder: Path, size: int) -> Iterator[int]:
    """Serves a file of `size` bytes; gives the worker's process id."""
    (folder / "blob").write_bytes(bytes(size))
    text = _NGINX.format(
        folder=folder,
        host=network.host,
        port=NGINX_PORT,
        certificate=identity.certificate_file,
        key=identity.key_file,
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(text, encoding="ascii")
    command = started(network, network.server, 0, "nginx", "-c", str(configuration), "-p", str(folder))
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as master:
        try:
            yield _worker_of(master.pid, folder / "nginx.pid")
        finally:
            master.terminate()


def _worker_of(pid: int, ready: Path) -> int:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        if ready.exists() and children:
            return int(children[0])
        time.sleep(0.05)
    raise TimeoutError("nginx did not start")


def curl(network: Network, limit_s: float = 60.0) -> tuple[int, float, float]:
    """Bytes, seconds, and curl's own seconds of CPU."""
    url = f"https://{network.host}:{NGINX_PORT}/blob"
    report = '{"bytes": %{size_download}, "s": %{time_total}}'
    options = ("--insecure", "--silent", "--http1.1", "--output", "/dev/null", "--write-out", report)
    command = started(network, network.client, 1, "curl", *options, "--max-time", str(limit_s), url)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        found = json.loads(process.stdout.read())
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
    return found["bytes"], found["s"], used.ru_utime + used.ru_stime


# calls beside a body


async def call_beside(pipe: Pipe, identity: Identity, network: Network, port: int) -> None:
    """Answers (bytes, seconds) with the milliseconds of unary calls made one after another meanwhile.

    With bytes a body comes over the same link as the calls, else none.
    """
    settle(network, network.client, 1)
    config = FabricConfig(
        multicast=False, peers={"cell/c1": f"{network.host}:{port}"}, drain_s=0.1, host="0.0.0.0"
    )
    async with Fabric.join(config, identity, codec=BytesCodec()) as fabric:
        stub = EchoStub(fabric.channel(Role.CELL, "c1"))
        await stub.repeat(b"x" * 100)
        pipe.say(None)
        while (question := await pipe.hear()) is not None:
            loaded, seconds = question
            pipe.say(await _timed_calls(stub, loaded=loaded, seconds=seconds))


async def _timed_calls(stub: EchoStub, *, loaded: bool, seconds: float) -> tuple[list[float], int]:
    """How long each took in milliseconds, and the bytes that came beside them."""
    took: list[float] = []
    came = 0

    async def pour() -> None:
        nonlocal came
        async for message in stub.flood():
            came += len(message)

    async with asyncio.TaskGroup() as jobs:
        beside = jobs.create_task(pour()) if loaded else None
        await asyncio.sleep(0.3)
        came, until = 0, time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            await stub.repeat(b"x" * 100)
            took.append((time.perf_counter() - began) * 1e3)
        total = came
        if beside is not None:
            beside.cancel()
    return took, total
