"""A peer in a process of its own, which may live in another network namespace: prints what it learns.

    python -m tests.support.discovering ZONE ROLE ID PORT [FIND-ROLE]

Lines on standard output: `ready`, `found PEER HOST PORT`, `news PEER WORD`. A line on standard input ends it.
"""

import asyncio
import os
import sys
from pathlib import Path

from nano.fabric.identity.identity import Identity
from nano.fabric.peers.directory import Directory
from nano.fabric.peers.multicast import Group
from nano.fabric.peers.roster_events import News
from nano.model.peers import Peer, Role


def identity(zone: str, role: Role, name: str) -> Identity:
    """Discovery proves nothing, so no certificate is needed for it."""
    nowhere = Path(os.devnull)
    return Identity(zone, role, name, nowhere, nowhere, nowhere)


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def _told(peer: Peer, news: News) -> None:
    _say("news", peer, news)


async def _main(zone: str, role: str, name: str, port: str, sought: str = "") -> None:
    own = identity(zone, Role(role), name)
    async with Directory(own, int(port), group=Group(), told=_told) as directory:
        _say("ready")
        if sought:
            peer, (host, at) = await directory.find(Role(sought))
            _say("found", peer, host, at)
        await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
