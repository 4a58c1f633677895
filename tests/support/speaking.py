"""A peer in a process of its own, on whatever host: answers calls, and makes them when it is told to.

    python -m tests.support.speaking ZONE ROLE ID FOLDER    where FOLDER has the files of its identity

It finds others by multicast. Lines on standard input: `call ROLE [ID]`, until that is answered; `hold ROLE`,
a call that stays open; `held`, whether it is open still. Lines on standard output: `ready`, then
`answered MILLISECONDS by PEER`, `holds`, `held yes|no`, and `news PEER WORD`.
"""

import asyncio
import contextlib
import sys
from pathlib import Path

from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity.identity import Identity
from nano.model.errors import NanoError
from nano.model.peers import Role
from tests.support.echo import ROLES, BytesCodec, EchoHandler, EchoStub

TRY_S = 5.0
PAUSE_S = 0.02


class _Named(EchoHandler):
    """Answers with its own name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    async def _repeat(self, call: object) -> None:
        await call.recv_message()  # type: ignore[attr-defined]
        await call.send_message(self._name.encode())  # type: ignore[attr-defined]


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def _call(fabric: Fabric, role: str, name: str | None = None) -> None:
    stub = EchoStub(fabric.channel(Role(role), name))
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        try:
            answer = await stub.repeat(b"who is it?", timeout=TRY_S)
        except NanoError:
            await asyncio.sleep(PAUSE_S)
        else:
            say("answered", round((loop.time() - began) * 1000), "by", answer.decode())
            return


async def _hold(fabric: Fabric, role: str) -> None:
    with contextlib.suppress(NanoError):
        async for _ in EchoStub(fabric.channel(Role(role))).wait():
            say("holds")


async def _news(fabric: Fabric) -> None:
    async for event in fabric.events():
        say("news", event.peer, event.news)


async def _main(zone: str, role: str, name: str, folder: str) -> None:
    files = [Path(folder, each) for each in ("certificate.pem", "key.pem", "ca.pem")]
    identity = Identity(zone, Role(role), name, *files)
    config = FabricConfig(drain_s=0.1)
    async with (
        Fabric.join(config, identity, codec=BytesCodec()) as fabric,
        asyncio.TaskGroup() as jobs,
    ):
        fabric.serve([_Named(f"{role}/{name}")], ROLES)
        own = [jobs.create_task(_news(fabric))]
        held: asyncio.Task[None] | None = None
        say("ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            match line.split():
                case ["call", *target]:
                    await _call(fabric, *target)
                case ["hold", target]:
                    held = jobs.create_task(_hold(fabric, target))
                    own.append(held)
                case ["held"]:
                    say("held", "no" if held is None or held.done() else "yes")
        for job in own:
            job.cancel()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
