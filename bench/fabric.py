"""Calls and bodies over the fabric beside grpclib on TLS/TCP and HTTPS, in interleaved rounds of one run.

.venv/bin/python -m bench.fabric [--quick]     prints medians and ratios, and ends in one line of JSON

The servers live in processes of their own; both sides use mutual TLS of one throw-away zone on the loopback.
What else runs on the machine moves the absolute figures: only the ratios of one run mean anything.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import resource
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import grpclib.client
import grpclib.server
import uvicorn

from nano.fabric.bulk import BulkBody, BulkInfo, BulkRequest
from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity import Identity
from nano.model.peers import Role
from tests.support.certificates import issue, make_zone
from tests.support.echo import ROLES, BytesCodec, EchoHandler, EchoStub

PAYLOAD = b"x" * 100
PIECE = bytes(256 * 1024)
OPEN_CALLS = 5_000
IDLE_LINKS = 8


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    seconds: float
    bulk_bytes: int
    idle_s: float


FULL = Plan(rounds=5, seconds=2.0, bulk_bytes=256 << 20, idle_s=20.0)
QUICK = Plan(rounds=3, seconds=0.5, bulk_bytes=32 << 20, idle_s=5.0)


class Blob:
    """As many bytes as the path says, made of one piece."""

    async def head(self, request: BulkRequest) -> BulkInfo:
        return BulkInfo(int(request.path[1:]))

    async def get(self, request: BulkRequest) -> BulkBody:
        return BulkBody(await self.head(request), _pieces(int(request.path[1:])))

    async def put(self, request: BulkRequest, chunks: AsyncIterator[bytes]) -> dict[str, str]:
        size = sum([len(chunk) async for chunk in chunks])
        return {"nano-size": str(size), "nano-path": request.path}


async def _pieces(size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, len(PIECE)):
        yield PIECE[: min(len(PIECE), size - start)]


def tls(identity: Identity, *, server: bool) -> ssl.SSLContext:
    """The same certificates for TCP."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(identity.certificate_file, identity.key_file)
    context.load_verify_locations(identity.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    return context


# the servers


async def https_app(scope: Any, _receive: Any, send: Any) -> None:
    """The same blob for curl."""
    size = int(scope["path"][1:])
    headers = [(b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for piece in _pieces(size):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


async def serve(identity: Identity, pipe: Connection) -> None:
    """All servers of one process; tells the ports, then waits for the end."""
    config = FabricConfig(host="127.0.0.1", multicast=False, drain_s=0.1)
    async with Fabric.join(config, identity, codec=BytesCodec()) as fabric:
        fabric.serve([EchoHandler()], ROLES)
        fabric.serve_bulk(Blob(), {(method, "/"): frozenset(Role) for method in ("GET", "PUT", "HEAD")})
        tcp = grpclib.server.Server([EchoHandler()], codec=BytesCodec())
        await tcp.start("127.0.0.1", 0, ssl=tls(identity, server=True))
        assert tcp._server is not None
        port = tcp._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        pipe.send((fabric.address[1], port))
        await asyncio.to_thread(pipe.recv)
        tcp.close()


def run_calls(identity: Identity, pipe: Connection) -> None:
    asyncio.run(serve(identity, pipe))


def run_https(identity: Identity, pipe: Connection) -> None:
    config = uvicorn.Config(
        https_app,
        port=0,
        log_level="error",
        ssl_certfile=str(identity.certificate_file),
        ssl_keyfile=str(identity.key_file),
    )

    async def run() -> None:
        server = uvicorn.Server(config)
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(server.serve())
            while not server.started:  # noqa: ASYNC110 - uvicorn offers no event for it
                await asyncio.sleep(0.05)
            pipe.send(server.servers[0].sockets[0].getsockname()[1])
            await asyncio.to_thread(pipe.recv)
            server.should_exit = True

    asyncio.run(run())


@contextlib.contextmanager
def process(run: Callable[[Identity, Connection], None], identity: Identity) -> Iterator[tuple[Any, int]]:
    """A server process for the time of the context; gives what it tells first, and its process id."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=run, args=(identity, theirs), daemon=True)
    child.start()
    try:
        yield ours.recv(), child.pid or 0
    finally:
        ours.send(None)
        child.join(10)


# what is measured


async def calls(stub: EchoStub, in_flight: int, seconds: float) -> tuple[float, float, float]:
    """Calls a second, and p50 and p99 in milliseconds."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def one() -> None:
        while (began := time.perf_counter()) < until:
            await stub.repeat(PAYLOAD)
            took.append(time.perf_counter() - began)

    async with asyncio.TaskGroup() as jobs:
        for _ in range(in_flight):
            jobs.create_task(one())
    cut = quantiles(took, n=100)
    return len(took) / seconds, cut[49] * 1e3, cut[98] * 1e3


async def compare_calls(plan: Plan, ways: dict[str, EchoStub]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for in_flight in (1, 64, 512):
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
        for _ in range(plan.rounds):
            for name, stub in ways.items():
                found[name].append(await calls(stub, in_flight, plan.seconds))
        middle = {
            name: [median(column) for column in zip(*runs, strict=True)] for name, runs in found.items()
        }
        for name, (rate, p50, p99) in middle.items():
            print(f"{in_flight:4d} in flight  {name:8s} {rate:7.0f}/s  p50 {p50:7.2f} ms  p99 {p99:7.2f} ms")
            rows.append(
                {"in_flight": in_flight, "way": name, "per_s": round(rate), "p50_ms": p50, "p99_ms": p99}
            )
        ours, theirs = middle["fabric"], middle["tcp"]
        print(f"{'':15}fabric / tcp: rate {ours[0] / theirs[0]:.2f}, p50 {ours[1] / theirs[1]:.2f}")
    return rows


async def open_calls(stub: EchoStub, server: int) -> dict[str, float]:
    """Many calls held open on one link, and quick ones beside them."""
    begun = asyncio.Semaphore(0)
    before = rss_kib(os.getpid()), rss_kib(server)

    async def hold() -> None:
        async for _ in stub.wait():
            begun.release()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as jobs:
        holders = [jobs.create_task(hold()) for _ in range(OPEN_CALLS)]
        for _ in range(OPEN_CALLS):
            await begun.acquire()
        opened = time.perf_counter() - started
        after = rss_kib(os.getpid()), rss_kib(server)
        _, p50, p99 = await calls(stub, 1, 1.0)
        for holder in holders:
            holder.cancel()
    client, callee = ((b - a) / OPEN_CALLS for a, b in zip(before, after, strict=True))
    print(
        f"{OPEN_CALLS} calls open in {opened:.2f} s; a unary beside them p50 {p50:.2f} ms, p99 {p99:.2f} ms"
    )
    print(f"{'':15}memory of an open call: client {client:.1f} KiB, server {callee:.1f} KiB")
    return {"opened_s": opened, "p50_ms": p50, "p99_ms": p99, "client_kib": client, "server_kib": callee}


async def compare_bulk(plan: Plan, fabric: Fabric, https_port: int) -> dict[str, float]:
    """Megabytes a second for one body: ours into this process, HTTPS by curl into nothing."""
    client = fabric.bulk(Role.CELL, "c1")
    path = f"/{plan.bulk_bytes}"
    down, up, https = [], [], []
    for _ in range(plan.rounds):
        down.append(await _timed(plan, _drain(client.get(path))))
        up.append(await _timed(plan, client.put("/up", _pieces(plan.bulk_bytes), plan.bulk_bytes)))
        https.append(await _timed(plan, _curl(f"https://127.0.0.1:{https_port}{path}")))
    found = {"down": median(down), "up": median(up), "https": median(https)}
    print("bulk MB/s      " + "  ".join(f"{name} {rate:.0f}" for name, rate in found.items()))
    print(f"{'':15}fabric / https: {found['down'] / found['https']:.2f}")
    return found


async def _timed(plan: Plan, work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return plan.bulk_bytes / 1e6 / (time.perf_counter() - began)


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    async for _ in chunks:
        pass


async def _curl(url: str) -> None:
    command = ["curl", "--insecure", "--silent", "--fail", "--http1.1", "--output", "/dev/null", url]
    done = await asyncio.to_thread(subprocess.run, command, check=True)
    assert done.returncode == 0


async def idle_cost(
    plan: Plan, identities: list[Identity], peers: dict[str, str], server: int
) -> dict[str, float]:
    """Percent of a core that links cost at each end while nothing is said."""
    config = FabricConfig(host="127.0.0.1", multicast=False, peers=peers, drain_s=0.1)
    async with contextlib.AsyncExitStack() as stack:
        for identity in identities:
            fabric = await stack.enter_async_context(Fabric.join(config, identity, codec=BytesCodec()))
            await EchoStub(fabric.channel(Role.CELL, "c1")).repeat(PAYLOAD)
        before = cpu_s(os.getpid()), cpu_s(server)
        await asyncio.sleep(plan.idle_s)
        after = cpu_s(os.getpid()), cpu_s(server)
    dialler, listener = ((b - a) / plan.idle_s * 100 for a, b in zip(before, after, strict=True))
    print(
        f"{len(identities)} idle links     percent of a core: diallers {dialler:.2f}, listener {listener:.2f}"
    )
    return {"diallers_percent": dialler, "listener_percent": listener}


def rss_kib(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() // 1024


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(plan: Plan, folder: Path) -> dict[str, object]:
    zone = make_zone(folder)
    cell, scheduler = issue(zone, Role.CELL, "c1"), issue(zone, Role.SCHEDULER, "s1")
    others = [issue(zone, Role.SCHEDULER, f"idle-{number}") for number in range(IDLE_LINKS)]
    with process(run_calls, cell) as (ports, server), process(run_https, cell) as (https_port, _):
        peers = {"cell/c1": f"127.0.0.1:{ports[0]}"}
        config = FabricConfig(host="127.0.0.1", multicast=False, peers=peers, drain_s=0.1)
        idle = await idle_cost(plan, others, peers, server)
        async with Fabric.join(config, scheduler, codec=BytesCodec()) as fabric:
            context = tls(scheduler, server=False)
            async with grpclib.client.Channel("127.0.0.1", ports[1], ssl=context, codec=BytesCodec()) as tcp:
                ways = {"fabric": EchoStub(fabric.channel(Role.CELL, "c1")), "tcp": EchoStub(tcp)}
                return {
                    "idle": idle,
                    "calls": await compare_calls(plan, ways),
                    "open": await open_calls(ways["fabric"], server),
                    "bulk_mb_per_s": await compare_bulk(plan, fabric, https_port),
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of several")
    plan = QUICK if parser.parse_args().quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(plan, Path(folder)))))


if __name__ == "__main__":
    main()
