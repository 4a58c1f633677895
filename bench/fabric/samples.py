"""Samples received by a scheduler, decoding and intake included, from one cell and from two hundred.

The cells are fabrics of their own in one process, the scheduler is another: it dials each cell, as it does in
a zone, so each sample comes by a socket of its own. What is sent is what a cell's sampler makes: a host and
seven instances in one datagram, at even intervals, one datagram at a time.
"""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

from bench.fabric.sides import Pipe, Plan, Side, side
from bench.fabric.targets import Part, Target
from nano import wire
from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity.identity import Identity
from nano.model.peers import Peer, Role
from nano.model.pool import Usage
from services.cell.sampler import ROWS, datagrams
from services.scheduler.samples import Samples
from tests.support.certificates import issue, make_zone

PEERS = 200
RATES = ((1, 1_000), (PEERS, 1_000), (PEERS, 5_000))
"""How many cells, and how many datagrams a second from all of them."""

_TICK_S = 0.001


def usages(cell: str, at_ms: int) -> list[Usage]:
    """What a cell of seven instances says each time."""
    names = [cell, *(f"{cell}-instance-{number}" for number in range(1, ROWS))]
    return [
        Usage(name, at_ms, 12.5, 3 << 30, 8 << 30, 20 << 30, 80 << 30, 1 << 33, 1 << 32, at_ms, at_ms // 2)
        for name in names
    ]


async def cells(pipe: Pipe, identities: list[Identity]) -> None:
    """Answers (cells, datagrams a second, seconds) with how many it sent."""
    config = FabricConfig(multicast=False, drain_s=0.1)  # on every address, as services listen
    async with contextlib.AsyncExitStack() as stack:
        fabrics = [await stack.enter_async_context(Fabric.join(config, found)) for found in identities]
        pipe.say([fabric.address[1] for fabric in fabrics])
        while (question := await pipe.hear()) is not None:
            count, per_s, seconds = question
            pipe.say(await _send(fabrics[:count], identities, per_s, seconds))


async def _send(fabrics: list[Fabric], identities: list[Identity], per_s: float, seconds: float) -> int:
    """Evenly: what is due goes out each millisecond, each datagram in a packet of its own."""
    loop = asyncio.get_running_loop()
    data = [datagrams(usages(identity.id, 1))[0] for identity in identities]
    started, sent, gone = loop.time(), 0, 0
    while (passed := loop.time() - started) < seconds:
        while sent < passed * per_s:
            number = sent % len(fabrics)
            gone += fabrics[number].send_sample(data[number])
            sent += 1
        await asyncio.sleep(_TICK_S)
    return gone


async def scheduler(pipe: Pipe, identity: Identity, ports: dict[str, int]) -> None:
    """Says that every cell is linked, then answers each question with how many samples have come since."""
    peers = {f"cell/{name}": f"127.0.0.1:{port}" for name, port in ports.items()}
    config = FabricConfig(host="127.0.0.1", multicast=False, peers=peers, drain_s=0.1)
    samples = Samples({})
    heard = 0

    def sampled(_: Peer, datagram: bytes) -> None:
        nonlocal heard
        samples.heard(wire.sampled(datagram))
        heard += 1

    async with Fabric.join(config, identity) as fabric:
        fabric.on_sample(sampled)
        fabric.keep_linked(Role.CELL)
        while sum(link.is_up for link in fabric.links) < len(peers):  # noqa: ASYNC110 - a bench may look
            await asyncio.sleep(0.05)
        pipe.say(len(peers))
        while await pipe.hear() is not None:
            pipe.say(heard)
            heard = 0


def measure(plan: Plan, folder: Path) -> Part:
    zone = make_zone(folder)
    identities = [issue(zone, Role.CELL, f"c{number}") for number in range(PEERS)]
    with side(cells, identities) as sender:
        ports = {identity.id: port for identity, port in zip(identities, sender.ready, strict=True)}
        with side(scheduler, issue(zone, Role.SCHEDULER, "s1"), ports) as receiver:
            rows = [_rate(plan, sender, receiver, *rate) for rate in RATES]
    most = rows[-1]
    cores = most["receiver_us"] * most["offered_per_s"] / 1e6  # also when the sender was kept from sending
    return Part(
        {f"{row['peers']} peers, {row['offered_per_s']}/s": row for row in rows},
        [
            Target(
                f"samples of {PEERS} peers that arrive, of 100", most["arrived_percent"], 98, at_least=True
            ),
            Target(f"cores for {RATES[-1][1]} samples/s, decoding included", cores, 1.0),
        ],
    )


def _rate(plan: Plan, sender: Side, receiver: Side, count: int, per_s: int) -> dict[str, Any]:
    seconds = plan.seconds * plan.rounds
    receiver.ask("forget what came before")
    before, began = (sender.cpu_s, receiver.cpu_s), time.perf_counter()
    sent = sender.ask((count, per_s, seconds))
    received = receiver.ask("how many")
    took = time.perf_counter() - began  # longer than was asked for when the receiver has a backlog
    cores = [(side.cpu_s - was) / took for side, was in zip((sender, receiver), before, strict=True)]
    row = {
        "peers": count,
        "offered_per_s": per_s,
        "received_per_s": round(received / took),
        "arrived_percent": round(received / sent * 100, 2),
        "sender_cores": round(cores[0], 3),
        "receiver_cores": round(cores[1], 3),
        "receiver_us": round(cores[1] * took / max(1, received) * 1e6),
    }
    print(
        f"{count:4d} peers  {per_s} offered, {row['received_per_s']} received a second,"
        f" {row['arrived_percent']:g} % arrived;  CPU a sample: receiver {row['receiver_us']} µs,"
        f" sender {cores[0] * took / max(1, sent) * 1e6:.0f} µs"
    )
    return row
