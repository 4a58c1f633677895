"""Fabrics of one throw-away zone on the loopback, found by static addresses."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from grpclib.encoding.base import CodecBase

from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity.authority import Authority
from nano.fabric.identity.identity import Identity
from nano.model.peers import Role
from tests.support.certificates import issue, make_zone
from tests.support.echo import ROLES, BytesCodec, EchoHandler, EchoStub


class Lab:
    """A zone, and fabrics in it that know of each other what the test tells them."""

    def __init__(self, folder: Path, codec: CodecBase | None = None) -> None:
        """Its messages are bytes unless `codec` knows better."""
        self._codec = codec or BytesCodec()
        self.authority: Authority = make_zone(folder)
        self.addresses: dict[str, str] = {}
        self.known: dict[str, Identity] = {}
        """The identities of all that joined, by `role/id`."""

    def identity(self, role: Role, name: str) -> Identity:
        return issue(self.authority, role, name)

    @contextlib.asynccontextmanager
    async def join(self, role: Role, name: str, **settings: Any) -> AsyncIterator[Fabric]:
        """A fabric that knows all that joined before it."""
        options: dict[str, Any] = {"host": "127.0.0.1", "multicast": False, "drain_s": 0.5}
        config = FabricConfig(**({"peers": dict(self.addresses)} | options | settings))
        identity = self.known[f"{role}/{name}"] = self.identity(role, name)
        async with Fabric.join(config, identity, codec=self._codec) as fabric:
            self.addresses[f"{role}/{name}"] = "{}:{}".format(*fabric.address)
            yield fabric

    @contextlib.asynccontextmanager
    async def echo(self, **settings: Any) -> AsyncIterator[tuple[EchoHandler, EchoStub, Fabric, Fabric]]:
        """A cell with the test contract, and a scheduler with a stub for it."""
        handler = EchoHandler()
        async with self.join(Role.CELL, "c1") as cell:
            cell.serve([handler], ROLES)
            async with self.join(Role.SCHEDULER, "s1", **settings) as scheduler:
                yield handler, EchoStub(scheduler.channel(Role.CELL, "c1")), cell, scheduler
