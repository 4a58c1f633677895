"""Unary calls of 100 bytes: over the fabric, over grpclib and over grpcio, the latter two on TLS/TCP.

Each side is a process of its own, all use the same certificates and check each other's. The three ways take
turns within each round; what counts is the ratio of medians.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import grpc
import grpclib.client
import grpclib.server

from bench.fabric.sides import Pipe, Plan, Side, side, tls
from bench.fabric.targets import Part, Target
from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity.identity import Identity, dns_name
from nano.model.peers import Peer, Role
from tests.support.certificates import issue, make_zone
from tests.support.echo import ECHO, ROLES, BytesCodec, EchoHandler, EchoStub

PAYLOAD = b"x" * 100
IN_FLIGHT = (1, 64, 512)

Repeat = Callable[[bytes], Awaitable[bytes]]


# the servers


async def serve_fabric(pipe: Pipe, identity: Identity) -> None:
    config = FabricConfig(multicast=False, drain_s=0.1)  # on every address, as services listen
    async with Fabric.join(config, identity, codec=BytesCodec()) as fabric:
        fabric.serve([EchoHandler()], ROLES)
        pipe.say(fabric.address[1])
        await pipe.hear()


async def serve_grpclib(pipe: Pipe, identity: Identity) -> None:
    server = grpclib.server.Server([EchoHandler()], codec=BytesCodec())
    await server.start("127.0.0.1", 0, ssl=tls(identity, server=True))
    assert server._server is not None
    pipe.say(server._server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]
    await pipe.hear()
    server.close()


async def serve_grpcio(pipe: Pipe, identity: Identity) -> None:
    async def repeat(message: bytes, _context: object) -> bytes:
        return message

    method = grpc.unary_unary_rpc_method_handler(repeat)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(ECHO.strip("/"), {"Repeat": method})]
    )
    credentials = grpc.ssl_server_credentials(
        [(identity.key_file.read_bytes(), identity.certificate_file.read_bytes())],
        identity.ca_file.read_bytes(),
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    pipe.say(port)
    await pipe.hear()
    await server.stop(0)


# the clients


@asynccontextmanager
async def fabric_client(identity: Identity, port: int) -> AsyncIterator[Repeat]:
    peers = {"cell/c1": f"127.0.0.1:{port}"}
    config = FabricConfig(host="127.0.0.1", multicast=False, peers=peers, drain_s=0.1)
    async with Fabric.join(config, identity, codec=BytesCodec()) as fabric:
        yield EchoStub(fabric.channel(Role.CELL, "c1")).repeat


@asynccontextmanager
async def grpclib_client(identity: Identity, port: int) -> AsyncIterator[Repeat]:
    context = tls(identity, server=False)
    async with grpclib.client.Channel("127.0.0.1", port, ssl=context, codec=BytesCodec()) as channel:
        yield EchoStub(channel).repeat


@asynccontextmanager
async def grpcio_client(identity: Identity, port: int) -> AsyncIterator[Repeat]:
    credentials = grpc.ssl_channel_credentials(
        identity.ca_file.read_bytes(), identity.key_file.read_bytes(), identity.certificate_file.read_bytes()
    )
    name = dns_name(identity.zone, Peer(Role.CELL, "c1"))
    options = [("grpc.ssl_target_name_override", name)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        yield channel.unary_unary(ECHO + "Repeat")


WAYS: dict[str, tuple[Any, Any]] = {
    "fabric": (serve_fabric, fabric_client),
    "grpclib": (serve_grpclib, grpclib_client),
    "grpcio": (serve_grpcio, grpcio_client),
}


async def call(pipe: Pipe, client: Any, identity: Identity, port: int) -> None:
    """Answers (in flight, seconds) with calls made, seconds taken, p50 and p99 in milliseconds."""
    async with client(identity, port) as repeat:
        await repeat(PAYLOAD)
        pipe.say(port)
        while (question := await pipe.hear()) is not None:
            pipe.say(await repeat_calls(repeat, *question))


async def repeat_calls(repeat: Repeat, in_flight: int, seconds: float) -> tuple[int, float, float, float]:
    """Calls made in how many seconds, and p50 and p99 in milliseconds."""
    took: list[float] = []
    started = time.perf_counter()
    until = started + seconds

    async def one() -> None:
        while (began := time.perf_counter()) < until:
            await repeat(PAYLOAD)
            took.append(time.perf_counter() - began)

    async with asyncio.TaskGroup() as jobs:
        for _ in range(in_flight):
            jobs.create_task(one())
    elapsed = time.perf_counter() - started
    cut = quantiles(took, n=100)
    return len(took), elapsed, cut[49] * 1e3, cut[98] * 1e3


def measure(plan: Plan, folder: Path) -> Part:
    zone = make_zone(folder)
    cell, scheduler = issue(zone, Role.CELL, "c1"), issue(zone, Role.SCHEDULER, "s1")
    with ExitStack() as stack:
        ends = {}
        for name, (serve, client) in WAYS.items():
            server = stack.enter_context(side(serve, cell))
            ends[name] = (server, stack.enter_context(side(call, client, scheduler, server.ready)))
        return _part({count: _rounds(plan, ends, count) for count in IN_FLIGHT})


def _rounds(plan: Plan, ends: dict[str, tuple[Side, Side]], in_flight: int) -> dict[str, dict[str, float]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ends}
    for _ in range(plan.rounds):
        for name, (server, client) in ends.items():
            before = server.cpu_s, client.cpu_s
            count, elapsed, p50, p99 = client.ask((in_flight, plan.seconds))
            server_s, client_s = server.cpu_s - before[0], client.cpu_s - before[1]
            row = {"per_s": count / elapsed, "p50_ms": p50, "p99_ms": p99}
            row |= {"server_us": server_s / count * 1e6, "client_us": client_s / count * 1e6}
            found[name].append(row)
    middle = {
        name: {column: round(median(row[column] for row in rows), 3) for column in rows[0]}
        for name, rows in found.items()
    }
    for name, row in middle.items():
        print(
            f"{in_flight:4d} in flight  {name:8s} {row['per_s']:7.0f}/s"
            f"  p50 {row['p50_ms']:7.2f} ms  p99 {row['p99_ms']:7.2f} ms"
            f"  CPU a call: client {row['client_us']:4.0f} µs, server {row['server_us']:4.0f} µs"
        )
    return middle


def _part(found: dict[int, dict[str, dict[str, float]]]) -> Part:
    def ratio(in_flight: int, column: str) -> float:
        ours, theirs = (found[in_flight][name][column] for name in ("fabric", "grpclib"))
        return ours / theirs

    cpu = {name: row["client_us"] + row["server_us"] for name, row in found[64].items()}
    return Part(
        {str(count): rows for count, rows in found.items()},
        [
            Target("unary, 1 in flight, p50 / grpclib's", ratio(1, "p50_ms"), 1.1),
            Target("unary, 64 in flight, calls/s / grpclib's", ratio(64, "per_s"), 1.3, at_least=True),
            Target("unary, 512 in flight, calls/s / grpclib's", ratio(512, "per_s"), 1.2, at_least=True),
            Target("unary, 512 in flight, p99 / grpclib's", ratio(512, "p99_ms"), 1.3),
            Target("CPU a call at 64, both sides / grpcio's", cpu["fabric"] / cpu["grpcio"], 1.2),
        ],
    )
