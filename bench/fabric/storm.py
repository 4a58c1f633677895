"""A scheduler is killed and starts again among two hundred peers: how long until all are linked again.

.venv/bin/python -m bench.fabric --only storm [--quick]

Once the scheduler dials all, which it knows by static addresses; once all dial it, whom they hear by
multicast. The peers share one process, the scheduler has one of its own. The time runs from when the new
scheduler listens until the last call is answered.
"""

import asyncio
import contextlib
import os
import secrets
import signal
from pathlib import Path
from statistics import median

from bench.fabric.sides import Pipe, Plan, Side, side
from bench.fabric.targets import Part, Target
from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity.identity import Identity
from nano.fabric.peers.roster_events import News
from nano.model.errors import NanoError
from nano.model.peers import Peer, Role
from tests.support.certificates import issue, make_zone
from tests.support.echo import ROLES, BytesCodec, EchoHandler, EchoStub

PEERS = 200
WITHIN_S = 5.0
PATIENCE_S = 20.0
PAUSE_S = 0.02
_GROUP_PORT = 15_610


def _config(group_port: int, known: dict[str, str]) -> FabricConfig:
    return FabricConfig(
        host="127.0.0.1", group_port=group_port, interfaces=("127.0.0.1",), peers=known, drain_s=0.1
    )


async def _answered(fabric: Fabric, role: str, name: str) -> None:
    """Returns when a call to the peer is answered, over whatever link and in whatever life of it."""
    stub = EchoStub(fabric.channel(Role(role), name))
    while True:
        try:
            await stub.repeat(b"there?", timeout=PATIENCE_S)
        except NanoError:
            await asyncio.sleep(PAUSE_S)
        else:
            return


async def scheduler(pipe: Pipe, identity: Identity, group_port: int, known: dict[str, str]) -> None:
    """Dials all that it knows: says after how many seconds all had answered; then, how many were lost."""
    async with (
        Fabric.join(_config(group_port, known), identity, codec=BytesCodec()) as fabric,
        asyncio.TaskGroup() as jobs,
    ):
        loop = asyncio.get_running_loop()
        began = loop.time()
        fabric.serve([EchoHandler()], ROLES)
        fabric.keep_linked(Role.CELL)
        lost: list[Peer] = []
        ear = jobs.create_task(_listen(fabric, lost))
        pipe.say("up")
        await asyncio.gather(*(_answered(fabric, *line.split("/")) for line in known))
        took_s = loop.time() - began
        await pipe.hear()
        pipe.say((took_s, len(lost)))
        await pipe.hear()
        ear.cancel()


async def _listen(fabric: Fabric, lost: list[Peer]) -> None:
    async for event in fabric.events():
        lost += [event.peer] if event.news is News.LOST else []


async def peers(pipe: Pipe, identities: list[Identity], group_port: int) -> None:
    """Says where they are; answers each question with the seconds until the scheduler has answered all."""
    async with contextlib.AsyncExitStack() as up:
        fabrics = []
        for identity in identities:
            joining = Fabric.join(_config(group_port, {}), identity, codec=BytesCodec())
            fabrics.append(await up.enter_async_context(joining))
            fabrics[-1].serve([EchoHandler()], ROLES)
        known = {f"cell/c{number}": "{}:{}".format(*each.address) for number, each in enumerate(fabrics)}
        pipe.say(known)
        loop = asyncio.get_running_loop()
        while await pipe.hear() is not None:
            began = loop.time()
            await asyncio.gather(*(_answered(fabric, Role.SCHEDULER, "main") for fabric in fabrics))
            pipe.say(loop.time() - began)


def _dials(crowd: Side, identity: Identity, group_port: int) -> tuple[float, int]:
    """One life of a scheduler that dials: until all had answered, and how many it lost."""
    with side(scheduler, identity, group_port, crowd.ready) as life:
        took_s, lost = life.ask("how long")
        os.kill(life.pid, signal.SIGKILL)
    return took_s, lost


def _is_dialled(crowd: Side, identity: Identity, group_port: int) -> tuple[float, int]:
    """One life of a scheduler that is dialled: until all were answered, and how many it lost."""
    with side(scheduler, identity, group_port, {}) as life:
        took_s = crowd.ask("go")
        _, lost = life.ask("how many")
        os.kill(life.pid, signal.SIGKILL)
    return took_s, lost


def measure(plan: Plan, folder: Path) -> Part:
    zone = make_zone(folder)
    own = issue(zone, Role.SCHEDULER, "main")
    identities = [issue(zone, Role.CELL, f"c{number}") for number in range(PEERS)]
    group_port = _GROUP_PORT + secrets.randbelow(1000)
    figures: dict[str, object] = {"peers": PEERS}
    targets = []
    with side(peers, identities, group_port) as crowd:
        for what, live in (("the scheduler dials", _dials), ("all dial the scheduler", _is_dialled)):
            lives = [live(crowd, own, group_port) for _ in range(plan.rounds + 1)][
                1:
            ]  # the first: no restart
            took_s, lost = zip(*lives, strict=True)
            figures |= {f"{what}, s": median(took_s), f"{what}, slowest, s": max(took_s)}
            targets += [
                Target(f"storm, {what}: all are back, s", median(took_s), WITHIN_S),
                Target(f"storm, {what}: lost", sum(lost), 0),
            ]
    return Part(figures, targets)
