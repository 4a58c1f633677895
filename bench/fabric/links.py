"""What a link costs: to make, to keep in memory, to keep alive, and with thousands of calls open on it."""

import asyncio
import contextlib
import gc
import time
from pathlib import Path

from bench.fabric.calls import repeat_calls, serve_fabric
from bench.fabric.samples import PEERS, scheduler, usages
from bench.fabric.sides import Pipe, Plan, Side, side
from bench.fabric.targets import Part, Target
from nano.fabric.fabric import Fabric, FabricConfig, utc_now
from nano.fabric.identity.credentials import Credentials
from nano.fabric.identity.identity import Identity
from nano.fabric.links.ends import CALL_WINDOWS, Dialled, Handlers, Listener, Route
from nano.fabric.links.liveness import Patience
from nano.model.peers import Peer, Role
from services.cell.sampler import INTERVAL_S, datagrams
from tests.support.certificates import issue, make_zone
from tests.support.echo import BytesCodec, EchoStub

LINKS = 200
AT_ONCE = 16
OPEN_CALLS = 5_000

_QUIET = Route(patience=Patience(keep_alive_s=300, suspect_s=400, lost_s=600))
"""Nothing is said while memory is looked at."""


# memory, and links a second


async def listen(pipe: Pipe, identity: Identity) -> None:
    """Says its port; then answers each question once the collector has found what there is."""
    credentials = Credentials.load(identity, utc_now)
    listener = Listener("127.0.0.1", 0, credentials=credentials, route=_QUIET, handlers=Handlers())
    pipe.say(listener.address[1])
    while await pipe.hear() is not None:
        gc.collect()
        pipe.say(len(listener.links))
    listener.close()


async def dial(pipe: Pipe, identity: Identity, port: int) -> None:
    """Answers a number with the seconds that so many new links took, sixteen at a time; keeps them."""
    credentials = Credentials.load(identity, utc_now)
    loop, kept = asyncio.get_running_loop(), []
    places = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with places:
            end = Dialled(
                ("127.0.0.1", port),
                Peer(Role.CELL, "c1"),
                credentials=credentials,
                route=_QUIET,
                handlers=Handlers(),
                windows=CALL_WINDOWS,
            )
            kept.append(end)
            await end.connect(10)

    pipe.say("ready")
    while (count := await pipe.hear()) is not None:
        began = loop.time()
        await asyncio.gather(*(one() for _ in range(count)))
        took = loop.time() - began
        await asyncio.gather(*(end.link.ping() for end in kept))
        gc.collect()
        pipe.say(took)
    for end in kept:
        end.link.close()


def _memory(folder: Path) -> dict[str, float]:
    zone = make_zone(folder)
    cell, caller = issue(zone, Role.CELL, "c1"), issue(zone, Role.SCHEDULER, "s1")
    with side(listen, cell) as listener, side(dial, caller, listener.ready) as dialler:
        dialler.ask(20)  # what is loaded and made once
        listener.ask("collect")
        ends = listener, dialler
        memory = [end.rss_kib for end in ends]
        cpu = [end.cpu_s for end in ends]
        took = dialler.ask(LINKS)
        listener.ask("collect")
        used = [end.cpu_s - was for end, was in zip(ends, cpu, strict=True)]
        grown = [(end.rss_kib - was) / LINKS for end, was in zip(ends, memory, strict=True)]
    found = {
        "links_per_s": round(LINKS / took),
        "listener_kib": round(grown[0], 1),
        "dialler_kib": round(grown[1], 1),
        "listener_handshake_ms": round(used[0] / LINKS * 1e3, 2),
        "dialler_handshake_ms": round(used[1] / LINKS * 1e3, 2),
    }
    print(
        f"links: {found['links_per_s']}/s; CPU of one: listener {found['listener_handshake_ms']} ms, dialler"
        f" {found['dialler_handshake_ms']} ms;  memory of an idle one: listener {grown[0]:.0f} KiB, dialler"
        f" {grown[1]:.0f} KiB"
    )
    return found


# idle links, each with its sample


async def sampling_cells(pipe: Pipe, identities: list[Identity]) -> None:
    """Cells that sample as cells do, each at a moment of its own within the interval."""
    config = FabricConfig(multicast=False, drain_s=0.1)  # on every address, as services listen

    async def sample(fabric: Fabric, identity: Identity, offset: float) -> None:
        data = datagrams(usages(identity.id, 1))[0]
        await asyncio.sleep(offset * INTERVAL_S)
        while True:
            fabric.send_sample(data)
            await asyncio.sleep(INTERVAL_S)

    async with contextlib.AsyncExitStack() as stack:
        fabrics = [await stack.enter_async_context(Fabric.join(config, found)) for found in identities]
        pipe.say([fabric.address[1] for fabric in fabrics])
        async with asyncio.TaskGroup() as jobs:
            samplers = [
                jobs.create_task(sample(fabric, identity, number / len(fabrics)))
                for number, (fabric, identity) in enumerate(zip(fabrics, identities, strict=True))
            ]
            while await pipe.hear() is not None:
                pipe.say("here")
            for sampler in samplers:
                sampler.cancel()


def _idle(plan: Plan, folder: Path) -> dict[str, float]:
    zone = make_zone(folder)
    identities = [issue(zone, Role.CELL, f"c{number}") for number in range(PEERS)]
    with side(sampling_cells, identities) as sender:
        ports = {identity.id: port for identity, port in zip(identities, sender.ready, strict=True)}
        with side(scheduler, issue(zone, Role.SCHEDULER, "s1"), ports) as receiver:
            receiver.ask("forget")
            cost = _percent(plan, sender, receiver)
            received = receiver.ask("how many")
    print(
        f"{PEERS} idle links, a sample each {INTERVAL_S:g} s: {cost[1]:.1f} % of a core at the scheduler,"
        f" {cost[0]:.1f} % for all cells; {received} samples in {plan.idle_s:g} s"
    )
    return {"scheduler_percent": cost[1], "cells_percent": cost[0], "received": received}


def _percent(plan: Plan, *ends: Side) -> list[float]:
    before = [end.cpu_s for end in ends]
    time.sleep(plan.idle_s)
    return [round((end.cpu_s - was) / plan.idle_s * 100, 2) for end, was in zip(ends, before, strict=True)]


# many open calls


async def hold(pipe: Pipe, identity: Identity, port: int) -> None:
    """Opens as many calls as it is asked to, and says how long that took; calls beside them; closes them."""
    peers = {"cell/c1": f"127.0.0.1:{port}"}
    config = FabricConfig(host="127.0.0.1", multicast=False, peers=peers, drain_s=0.1)
    loop = asyncio.get_running_loop()
    begun = asyncio.Semaphore(0)
    async with Fabric.join(config, identity, codec=BytesCodec()) as fabric, asyncio.TaskGroup() as jobs:
        stub = EchoStub(fabric.channel(Role.CELL, "c1"))

        async def one() -> None:
            async for _ in stub.wait():
                begun.release()

        await stub.repeat(b"the link is up")
        pipe.say("ready")
        count, seconds = await pipe.hear()
        started = loop.time()
        holders = [jobs.create_task(one()) for _ in range(count)]
        for _ in range(count):
            await begun.acquire()
        pipe.say(loop.time() - started)
        await pipe.hear()
        pipe.say(await repeat_calls(stub.repeat, 1, seconds))
        await pipe.hear()
        for holder in holders:
            holder.cancel()


def _open_calls(plan: Plan, folder: Path) -> dict[str, float]:
    zone = make_zone(folder)
    cell, caller = issue(zone, Role.CELL, "c1"), issue(zone, Role.SCHEDULER, "s1")
    with side(serve_fabric, cell) as server, side(hold, caller, server.ready) as client:
        before = client.rss_kib, server.rss_kib
        opened = client.ask((OPEN_CALLS, plan.seconds))
        held = [(end.rss_kib - was) / OPEN_CALLS for end, was in zip((client, server), before, strict=True)]
        _, _, p50, p99 = client.ask("calls beside them")
    print(
        f"{OPEN_CALLS} calls open in {opened:.2f} s; a unary beside them p50 {p50:.2f} ms, p99 {p99:.2f} ms;"
        f"  memory of an open call: client {held[0]:.1f} KiB, server {held[1]:.1f} KiB"
    )
    found = {"opened_s": opened, "p50_ms": p50, "p99_ms": p99, "client_kib": held[0], "server_kib": held[1]}
    return {name: round(value, 2) for name, value in found.items()}


def measure(plan: Plan, folder: Path) -> Part:
    memory, idle, calls = (
        _memory(folder / "memory"),
        _idle(plan, folder / "idle"),
        _open_calls(plan, folder / "calls"),
    )
    return Part(
        {"links": memory, "idle": idle, "open_calls": calls},
        [
            Target("memory of an idle link where it was dialled, KiB", memory["dialler_kib"], 64),
            Target("memory of an idle link where it came in, KiB", memory["listener_kib"], 64),
            Target(f"{PEERS} idle links with their samples, % of a core", idle["scheduler_percent"], 5),
        ],
    )
