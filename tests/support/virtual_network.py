"""Whole fabrics on a clock of their own: the sockets of `nano.fabric.links.ends` replaced by paths in memory.

Everything above the socket is real: QUIC, TLS, links, calls, the roster. With `virtual_time` an hour passes
in a second, and a seed makes the same faults each time.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Iterable, Iterator

import pytest

from nano.fabric.links import ends
from nano.fabric.packets.address import Address
from nano.fabric.packets.udp import Datagram, Receiver, Train
from tests.support.udp_faults import Faults, Path, Way

HOST = "10.0.0.1"
"""Everybody's: what tells them apart is the port."""

_FIRST_LISTENER, _FIRST_DIALLER = 5_000, 20_000


class Network:
    """Carries datagrams between listeners and those who dial them."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._listeners = itertools.count(_FIRST_LISTENER)
        self._diallers = itertools.count(_FIRST_DIALLER)
        self._endpoints: dict[Address, _Endpoint] = {}
        self._paths: dict[Address, Path] = {}

    @contextlib.contextmanager
    def installed(self) -> Iterator["Network"]:
        """Fabrics that begin in this context are on this network."""
        with pytest.MonkeyPatch.context() as replaced:
            replaced.setattr(ends, "bind", self._bind)
            replaced.setattr(ends, "Endpoint", self._open)
            yield self

    def path(self, listener: Address) -> Path:
        """The way to and from whoever listens there; new ones have no faults."""
        return self._paths.setdefault(listener, Path(self._seed + listener[1], Faults(delay_s=0.0005)))

    def vanish(self, address: Address) -> None:
        """Whoever has this address is gone without a word, as a process that is killed."""
        self._endpoints.pop(address, None)

    def _bind(self, host: str, port: int) -> Address:
        if host == HOST:
            return HOST, port or next(self._listeners)
        return HOST, next(self._diallers)

    def _open(self, address: Address, receiver: Receiver) -> "_Endpoint":
        self._endpoints[address] = endpoint = _Endpoint(self, address, receiver)
        return endpoint

    def carry_from_nowhere(self, data: bytes, source: Address, to: Address) -> None:
        """A datagram whose source is invented."""
        asyncio.get_running_loop().call_soon(self._arrive, data, source, to)

    def carry(self, data: bytes, source: Address, to: Address) -> None:
        if self._endpoints.get(source) is None:
            return  # it is gone, though its timers are not
        is_to = to[1] < _FIRST_DIALLER
        path, way = (self.path(to), Way.TO) if is_to else (self.path(source), Way.FROM)
        loop = asyncio.get_running_loop()
        for at in path.arrivals(way, len(data), loop.time()):
            loop.call_at(at, self._arrive, data, source, to)

    def _arrive(self, data: bytes, source: Address, to: Address) -> None:
        endpoint = self._endpoints.get(to)
        if endpoint is not None and not endpoint.closed:
            endpoint.receiver.receive(Train(data, max(len(data), 1), source))
            if not endpoint.closed:
                endpoint.receiver.drained()

    def close(self, address: Address) -> None:
        self._endpoints.pop(address, None)


class _Endpoint:
    """As `nano.fabric.packets.udp.Endpoint`."""

    def __init__(self, network: Network, address: Address, receiver: Receiver) -> None:
        self._network = network
        self.address = address
        self.receiver = receiver
        self.closed = False

    def send(self, datagrams: Iterable[Datagram]) -> None:
        for data, to in datagrams:
            if not self.closed:
                self._network.carry(bytes(data), self.address, to)

    def has_unread(self) -> bool:
        return False

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._network.close(self.address)
