"""The DHCP responder of a simulated host: its own store and its own words, without socket and bridge."""

import asyncio
import os
from pathlib import Path

from nano.bindings.client import Responder
from nano.bindings.messages import Ask, Bind, Entry, Replace, Unbind, decode_ask, encode_ask
from services.addresspool.bindings import Bindings

ANSWER_S = 0.002


class HostResponder(Responder):
    """Outlives its cell, as the real one does; what it was told is in its file."""

    def __init__(self, file: Path) -> None:
        super().__init__(file.name)
        self._file = file
        self._store = Bindings(file)
        self.is_down = False

    @property
    def served(self) -> dict[str, Entry]:
        """By MAC."""
        return self._store.entries

    def restart(self) -> None:
        """It is killed and started anew: it serves what its file says."""
        os.close(self._store._lock)
        self._store = Bindings(self._file)

    def close(self) -> None:
        self._store.close()

    async def _ask(self, ask: Ask) -> tuple[Entry, ...]:
        await asyncio.sleep(ANSWER_S)
        if self.is_down:
            raise self._absent("it is down")
        match decode_ask(encode_ask(ask)):
            case Bind(entry):
                self._store.bind(entry)
            case Unbind(mac):
                self._store.unbind(mac)
            case Replace(entries):
                self._store.replace(entries)
            case _:
                return tuple(self._store.entries.values())
        return ()
