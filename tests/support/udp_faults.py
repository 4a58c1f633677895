"""What a bad network does to datagrams, by a seed: the same each time. Also as a proxy between sockets."""

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

Address = tuple[str, int]


class Way(Enum):
    """Seen from whoever listens."""

    TO = "to"
    FROM = "from"


BOTH = frozenset(Way)


@dataclass
class Faults:
    """Chances are of 1, for each datagram; they may be changed while the path is in use."""

    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    delay_s: float = 0.0
    reordering_s: float = 0.01
    """How much later one comes that is overtaken."""
    rate_bytes_s: float = float("inf")
    queue_s: float = 0.1
    """What would wait for longer than this because of the rate is lost."""
    cut: frozenset[Way] = field(default_factory=frozenset)
    gaps: tuple[range, ...] = ()
    """Numbers of datagrams, both ways counted together, that are lost: outages that need no clock."""


class Path:
    """Decides for each datagram when it arrives, how often, if at all."""

    def __init__(self, seed: int, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self._dice = random.Random(seed)
        self._free_at = dict.fromkeys(Way, 0.0)
        self.passed = 0
        self.lost = 0

    def arrivals(self, way: Way, size_bytes: int, now: float) -> list[float]:
        """When the copies of a datagram arrive that is sent at `now`."""
        faults = self.faults
        rolls = [self._dice.random() for _ in range(3)]  # always as many, whatever the faults are
        begins = max(now, self._free_at[way])
        number = self.passed + self.lost
        is_cut = way in faults.cut or any(number in gap for gap in faults.gaps)
        if is_cut or rolls[0] < faults.loss or begins > now + faults.queue_s:
            self.lost += 1
            return []
        self.passed += 1
        self._free_at[way] = begins + size_bytes / faults.rate_bytes_s
        at = self._free_at[way] + faults.delay_s
        if rolls[1] < faults.reordering:
            at += faults.reordering_s
        copies = [at]
        if rolls[2] < faults.duplication:
            copies.append(at + faults.reordering_s / 2)
        return copies


class Proxy:
    """A path between whoever sends to `address` and `target`, over real sockets; many may send."""

    def __init__(self, target: Address, path: Path) -> None:
        self._target = target
        self.path = path
        self._loop = asyncio.get_running_loop()
        self._front = self._open(self._from_sender)
        self._backs: dict[Address, socket.socket] = {}

    @classmethod
    @contextlib.contextmanager
    def to(cls, target: Address, path: Path) -> Iterator["Proxy"]:
        proxy = cls(target, path)
        try:
            yield proxy
        finally:
            for side in (proxy._front, *proxy._backs.values()):
                proxy._loop.remove_reader(side.fileno())
                side.close()

    @property
    def address(self) -> str:
        host, port = self._front.getsockname()
        return f"{host}:{port}"

    def _open(self, received: Callable[[bytes, Address], None]) -> socket.socket:
        side = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        side.setblocking(False)
        side.bind(("127.0.0.1", 0))

        def drain() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    received(*side.recvfrom(65_535))

        self._loop.add_reader(side.fileno(), drain)
        return side

    def _from_sender(self, data: bytes, sender: Address) -> None:
        if sender not in self._backs:
            self._backs[sender] = self._open(lambda answer, _: self._from_target(answer, sender))
        self._pass(Way.TO, data, self._backs[sender], self._target)

    def _from_target(self, data: bytes, sender: Address) -> None:
        self._pass(Way.FROM, data, self._front, sender)

    def _pass(self, way: Way, data: bytes, side: socket.socket, to: Address) -> None:
        for at in self.path.arrivals(way, len(data), self._loop.time()):
            self._loop.call_at(at, _send, side, data, to)


def _send(side: socket.socket, data: bytes, to: Address) -> None:
    with contextlib.suppress(OSError):  # closed meanwhile, or full: lost, as on any network
        side.sendto(data, to)
