"""The sides of a measurement: each a process of its own, asked over a pipe, one question at a time.

What a side costs is its CPU time as the kernel counts it: all its threads, and no others.
"""

import asyncio
import contextlib
import gc
import logging
import multiprocessing
import os
import resource
import ssl
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog

from nano.fabric.identity.identity import Identity


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    seconds: float
    """Of one measurement in one round."""
    idle_s: float


FULL = Plan(rounds=5, seconds=2.0, idle_s=20.0)
QUICK = Plan(rounds=3, seconds=0.7, idle_s=8.0)


class Pipe:
    """The child's end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_ready = False

    def say(self, found: object) -> None:
        self._connection.send(found)

    async def hear(self) -> Any:
        """The next question; None is the last."""
        if not self._is_ready:  # as a service does when it is
            gc.collect()
            gc.freeze()
            self._is_ready = True
        return await asyncio.to_thread(self._connection.recv)


class Side:
    """One process, from the outside."""

    def __init__(self, connection: Connection, pid: int) -> None:
        self._connection = connection
        self.pid = pid
        self.ready: Any = connection.recv()
        """What it said when it was ready: a port, most often."""

    def ask(self, question: object) -> Any:
        self.begin(question)
        return self._connection.recv()

    def begin(self, question: object) -> None:
        """Ask, and look for the answer later."""
        self._connection.send(question)

    def answer(self) -> Any:
        return self._connection.recv()

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that it has used, in steps of 10 ms."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def rss_kib(self) -> int:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize() // 1024


Main = Callable[..., Coroutine[Any, Any, None]]


def _run(main: Main, connection: Connection, arguments: tuple[Any, ...]) -> None:
    structlog.configure(  # that links come and go is what is measured here; figures alone are printed
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    asyncio.run(main(Pipe(connection), *arguments))


@contextlib.contextmanager
def side(main: Main, *arguments: object) -> Iterator[Side]:
    """A process that runs `main(pipe, *arguments)` for the time of the context."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_run, args=(main, theirs, arguments), daemon=True)
    child.start()
    theirs.close()
    try:
        yield Side(ours, child.pid or 0)
    finally:
        with contextlib.suppress(BrokenPipeError):
            ours.send(None)
        child.join(10)
        if child.is_alive():
            child.kill()


def tls(identity: Identity, *, server: bool) -> ssl.SSLContext:
    """The fabric's certificates, for TCP."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(identity.certificate_file, identity.key_file)
    context.load_verify_locations(identity.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    return context
