"""The services of a zone as real processes: born, killed, born again."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from nano.fleet.configuration import Settings, toml
from tests.support.nursery import Birth, Born, Died, News

PATIENCE_S = 30.0
"""A bound, never a wait."""

PORTS = {"scheduler": 5600, "imagestore": 5601, "addresspool": 5602, "cell": 5604}
"""Of the network that the test has for itself; in the order of their first start."""

GROUP_PORT = 15599
CELL = "Cell_02000000000a"
KILLED = -signal.SIGKILL


class Service:
    """One service, life after life."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.notify = folder / f"{name}.notify"
        self.config = folder / f"{name}.toml"
        self.pid = 0
        """Of this life; 0: it does not live."""
        self.status = 0
        """With which the last life ended."""

    @property
    def is_up(self) -> bool:
        return self.pid != 0


class Home:
    """Where the services of a zone are born, and the news of their deaths."""

    def __init__(self, folder: Path, changed: Callable[[], None]) -> None:
        """`changed` is called with each birth and each death."""
        self.services = {name: Service(name, folder) for name in PORTS}
        self._folder = folder
        self._changed = changed
        for name, service in self.services.items():
            service.config.write_text(toml(_settings(folder, name)))

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Home"]:
        """Nobody lives any more when it is closed."""
        with (self._folder / "nursery.log").open("wb") as log:
            self._nursery = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.support.nursery"), stdin=PIPE, stdout=PIPE, stderr=log
            )
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._orders, self._news = self._nursery.stdin, self._nursery.stdout
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(self._hear(), name="births and deaths")
            try:
                yield self
            finally:
                self._orders.close()
                await self._nursery.wait()

    def dead(self) -> list[str]:
        return [service.name for service in self.services.values() if not service.is_up]

    def kill(self, name: str) -> None:
        """If it still lives; its death is told when it has come."""
        if self.services[name].is_up:
            os.kill(self.services[name].pid, signal.SIGKILL)

    async def start(self, name: str) -> None:
        """Returns when it says that it is ready."""
        service = self.services[name]
        files = (self._folder, service.config, service.log, service.notify)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.setblocking(False)
            listener.bind(str(service.notify))
            self._orders.write(msgspec.json.encode(Birth(name, *(str(each) for each in files))) + b"\n")
            said = b""
            async with asyncio.timeout(PATIENCE_S):
                while not said.startswith(b"READY=1"):  # before, it may say what it waits for
                    said = await asyncio.get_running_loop().sock_recv(listener, 1000)
        service.notify.unlink()

    async def _hear(self) -> None:
        async for line in self._news:
            match msgspec.json.decode(line, type=News):
                case Born(name, pid):
                    self.services[name].pid = pid
                case Died(pid, status):
                    (service,) = (each for each in self.services.values() if each.pid == pid)
                    service.pid, service.status = 0, status
            self._changed()


def _settings(folder: Path, name: str) -> Settings:
    fabric = {
        "listen": "127.0.0.1",
        "enrolment": folder / "enrolment",
        "discovery": {"interfaces": ["127.0.0.1"], "port": GROUP_PORT},
    }
    own = {"hypervisor": "simulated", "responder": "", "id": CELL} if name == "cell" else {}
    return {**own, "paths": {"data": folder / name, "run": folder}, "fabric": fabric}
