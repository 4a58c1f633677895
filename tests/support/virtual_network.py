"""Whole fabrics on a clock of their own: the sockets of `nano.fabric.links.ends` replaced by paths in memory.

Everything above the socket is real: QUIC, TLS, links, calls, the roster. With `virtual_time` an hour passes
in a second, and a seed makes the same faults each time.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import cast

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
            replaced.setattr(ends, "listen", self._listen)
            replaced.setattr(ends, "bind", self._bind)
            replaced.setattr(ends, "Endpoint", self._open)
            yield self

    def path(self, listener: Address) -> Path:
        """The way to and from whoever listens there; new ones have no faults."""
        return self._paths.setdefault(listener, Path(self._seed + listener[1], Faults(delay_s=0.0005)))

    def also_at(self, listener: Address, host: str) -> Address:
        """The host of this listener has another address, too: where it is heard there."""
        there = host, listener[1]
        self._endpoints[there] = self._endpoints[listener]
        return there

    def vanish(self, address: Address) -> None:
        """Whoever has this address is gone without a word, as a process that is killed."""
        gone = self._endpoints.get(address)
        for each in [each for each, found in self._endpoints.items() if found is gone]:
            del self._endpoints[each]

    def _listen(self, host: str, port: int) -> Address:
        return host, port or next(self._listeners)

    def _bind(self, _host: str, _port: int) -> Address:
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
            if endpoint.is_listener:
                source = cast("Address", (*source, to[0]))
            endpoint.receiver.receive(Train(data, max(len(data), 1), source))
            if not endpoint.closed:
                endpoint.receiver.drained()


class _Endpoint:
    """As `nano.fabric.packets.udp.Endpoint`: at a listener, addresses end in the one that was dialled."""

    def __init__(self, network: Network, address: Address, receiver: Receiver) -> None:
        self._network = network
        self.address = address
        self.receiver = receiver
        self.is_listener = address[1] < _FIRST_DIALLER
        self.closed = False

    def send(self, datagrams: Iterable[Datagram]) -> None:
        for data, to in datagrams:
            *there, own = to if self.is_listener else (*to, self.address[0])
            if not self.closed:
                source = cast("str", own), self.address[1]
                self._network.carry(bytes(data), source, cast("Address", tuple(there)))

    def has_unread(self) -> bool:
        return False

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._network.vanish(self.address)
