"""How every service starts, says that it is ready, stops, and logs: the same six times.

    python -m services.addresspool --config config/addresspool.toml

A service's `__main__` names its configuration and its `serve`; all else is here. What the supervisor is told
is in `nano.notify`: that the service waits, is ready, turns its event loop, stops, or why it failed.
"""

import argparse
import asyncio
import contextlib
import faulthandler
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from nano import notify
from nano.model.errors import Cancelled, Invalid, NanoError

C = TypeVar("C", bound=msgspec.Struct)
Serve = Callable[[C, asyncio.Event], Awaitable[None]]

_MORE_TIME_EVERY_S = notify.EXTENSION_S / 3


class Discovery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How peers are found; group and port are those of the documented domain configuration."""

    domain: str = "nano"
    group: str = "224.0.0.226"
    port: int = 5599
    interfaces: tuple[str, ...] = ()
    """Addresses of the interfaces to use, such as `127.0.0.1`; none: every interface."""
    peers: dict[str, str] = {}
    """Static addresses where multicast does not work: `"scheduler" = "10.0.0.1:5600"`."""


class FabricSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where this service listens on the fabric, and how it is let in."""

    listen: str = "0.0.0.0"  # noqa: S104 - every peer proves who it is before a request is served
    port: int = 0
    """0: the documented port of the role (design, section 2)."""
    discovery: Discovery = Discovery()
    enrolment: str = "/run/nano/enrolment.sock"
    """The scheduler's socket on this host, by which local services get their certificates. Empty: the
    scheduler is on another host."""
    enrolment_user: str = ""
    """Who listens there, where that is neither root nor this service's own user."""
    token: str = ""
    """Where `enrolment` is empty, since the scheduler is on another host: the join token that lets this
    service in. Without one a cell waits to be admitted."""
    token_file: str = ""
    """A file that holds the token, instead of `token`; one that is empty is none. Neither is looked at once
    the service is in the zone."""


class Paths(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a service keeps things."""

    data: str
    run: str = "/run/nano"


def read_config(path: Path, kind: type[C]) -> C:
    """The configuration in a TOML file; Invalid names file and member. An absent file is an empty one."""
    try:
        return msgspec.toml.decode(path.read_bytes() if path.exists() else b"", type=kind)
    except msgspec.DecodeError as error:
        raise Invalid(str(path), f"{path}: {error}; correct it and start again") from error


def now_ms() -> int:
    """The wall clock, milliseconds since 1970 UTC. Only `__main__` reads it; others get it handed in."""
    return time.time_ns() // 1_000_000


def run(name: str, config_type: type[C], serve: Serve[C]) -> int:
    """Runs one service until SIGTERM or SIGINT; the exit status is 0 then, and 1 when it failed."""
    parser = argparse.ArgumentParser(prog=f"nano-{name}")
    parser.add_argument("--config", type=Path, default=Path(f"/etc/nano/{name}.toml"))
    arguments = parser.parse_args()
    configure_logging(name)
    faulthandler.enable()  # the watchdog's SIGABRT shows in the log where each thread hung
    log = structlog.get_logger()
    try:
        asyncio.run(_until_stopped(read_config(arguments.config, config_type), serve))
    except NanoError as failure:
        _failed(failure)
        return 1
    except BaseExceptionGroup as failures:
        for leaf in _leaves(failures):
            _failed(leaf)
        return 1
    log.info("service.stopped")
    return 0


def _failed(failure: BaseException) -> None:
    """An expected failure in one line; a defect with its traceback."""
    log = structlog.get_logger()
    if isinstance(failure, NanoError):
        notify.failed(failure.message)
        log.error("service.failed", code=failure.code, error=failure.message)
    else:
        notify.failed(repr(failure))
        log.error("service.crashed", error=repr(failure), exc_info=failure)


async def _until_stopped(config: C, serve: Serve[C]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stopping)
    _feed(notify.Watchdog(os.environ, os.getpid()))
    try:
        await serve(config, stopping)
    except Cancelled:
        if not stopping.is_set():  # else it gave up what it still waited for, as it was asked to
            raise


def _stop(stopping: asyncio.Event) -> None:
    notify.stopping()
    stopping.set()


def _feed(watchdog: notify.Watchdog) -> None:
    """Fed by the event loop for as long as that turns: one that is stuck is killed and started anew."""
    loop = asyncio.get_running_loop()
    pause_s = watchdog.feed(loop.time())
    if pause_s is not None:
        loop.call_later(pause_s, _feed, watchdog)


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    return [
        leaf
        for one in group.exceptions
        for leaf in (_leaves(one) if isinstance(one, BaseExceptionGroup) else [one])
    ]


def ready(status: str) -> None:
    """Tells the supervisor that the service answers now; a person reads `status` in `systemctl status`.

    What was loaded by now is there to stay: the collector of cycles need not look at it again, which took
    20 ms and more each time, and all calls waited.
    """
    gc.collect()
    gc.freeze()
    notify.ready(status)


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """While entered, the supervisor is told what the start waits for, and is asked for more time.

    The event loop asks, so that a start which is stuck is still shot when its time is up.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def ask() -> None:
        nonlocal timer
        notify.starting(what)
        timer = loop.call_later(_MORE_TIME_EVERY_S, ask)

    ask()
    try:
        yield
    finally:
        timer.cancel()


def configure_logging(name: str) -> None:
    """Lines of JSON on standard error, coloured ones on a terminal; task ids are bound by contextvars."""
    pretty = sys.stderr.isatty()
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            *(() if pretty else (structlog.processors.format_exc_info,)),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=name)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=f"{name} %(name)s: %(message)s")
    # aioquic warns of whatever any stranger sends; `nano.fabric.links.link` says it sparingly.
    logging.getLogger("quic").setLevel(logging.ERROR)
