"""Every two seconds: what host and instances use, as datagrams that may be lost."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from nano import wire
from nano.model.errors import NanoError
from nano.model.ids import CellId
from nano.model.pool import Usage
from services.cell.hypervisor import Hypervisor
from services.cell.usage import Meter, read_host

INTERVAL_S = 2.0

ROWS = 8
"""Samples in one datagram: one takes up to 110 bytes with its id, and a path between hosts carries 1200."""

_log = structlog.get_logger()


class Sampler:
    """`send` takes one datagram and says how many took it."""

    def __init__(
        self,
        cell: CellId,
        hypervisor: Hypervisor,
        storage: Path,
        send: Callable[[bytes], int],
        now_ms: Callable[[], int],
    ) -> None:
        self._cell = cell
        self._hypervisor = hypervisor
        self._storage = storage
        self._send = send
        self._now_ms = now_ms
        self._meter = Meter()

    async def run(self) -> None:
        """Until cancelled. A round that took too long skips the ones that it missed."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            for datagram in datagrams(await self.look()):
                self._send(datagram)
            due_s = max(due_s + INTERVAL_S, loop.time())
            await asyncio.sleep(due_s - loop.time())

    async def look(self) -> list[Usage]:
        """One round. Without the hypervisor's figures there are those of the host."""
        at_ms = self._now_ms()
        samples = self._meter.host(self._cell, read_host(self._storage), at_ms)
        try:
            rows = await self._hypervisor.usage()
        except NanoError as error:
            _log.debug("usage.not_read", error=error.message)
            return samples
        return samples + self._meter.instances(rows, at_ms, asyncio.get_running_loop().time())


def datagrams(samples: list[Usage]) -> list[bytes]:
    """Few rows to each."""
    return [
        bytes(wire.usages_message(samples[start : start + ROWS])) for start in range(0, len(samples), ROWS)
    ]
