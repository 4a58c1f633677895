"""The DHCP responder of one host: a process of its own, so that guests are served when all else is down.

    python -m services.addresspool.responder --config config/responder.toml

It reads what it serves from its own file, is told about changes by the host's cell (`nano.bindings`), and
needs neither fabric nor scheduler. One thread, one selector, the standard library only: it idles at 13 MiB.
"""

import argparse
import faulthandler
import json
import os
import selectors
import signal
import socket
import sys
import time
import tomllib
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, fields
from pathlib import Path

from nano import notify
from nano.bindings.messages import Ask, Bind, List, Replace, Unbind, Watch, encode_entries
from nano.model.errors import Corrupt, Invalid, NanoError, StorageFull
from nano.notify import Watchdog
from services.addresspool import dhcp
from services.addresspool.bindings import Bindings
from services.addresspool.bridge import Bridge, LinkNews
from services.addresspool.control import Control
from services.addresspool.packet import decode_frame, encode_frame

WRITE_BEHIND_S = 1.0
"""How soon what guests do with their leases is on disk."""
FRAMES_A_TURN = 64


@dataclass(frozen=True)
class Config:
    """A few lines of TOML; read without msgspec, which alone would add half to our memory."""

    bridge: str = "br0"
    """The bridge that this host's guests are plugged into. It may appear later, go, and come back."""
    socket: str = "/run/nano/dhcp.sock"
    """Where the cell asks."""
    cell_user: str = ""
    """Who may ask there beside root and our own user; empty: nobody."""
    cell_group: str = ""
    """The group that may open the socket, which we must be in; empty: nobody else may."""
    file: str = "/var/lib/nano/dhcp/bindings.json"
    """What is served; kept over restarts."""


def read_config(path: Path) -> Config:
    """An absent file is an empty one; a member that is unknown or no text is `Invalid`."""
    try:
        found = tomllib.loads(path.read_text()) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid("", f"{path}: {error}; correct it and start again") from None
    known = {field.name for field in fields(Config)}
    for name, value in found.items():
        if name not in known or not isinstance(value, str) or not value:
            raise Invalid(
                name, f"{path}: {name} = {value!r} is not among {sorted(known)}, each a text; correct it"
            )
    return Config(**found)


class Responder:
    """What is open, and what happens when something comes in."""

    def __init__(self, config: Config, selector: selectors.BaseSelector, now_ms: Callable[[], int]) -> None:
        self._bridge_name = config.bridge
        self._selector = selector
        self._now_ms = now_ms
        self._bridge: Bridge | None = None
        self._refused = 0
        self._write_by_s = 0.0
        with ExitStack() as opened:
            self._bindings = opened.enter_context(closing(Bindings(Path(config.file))))
            self._control = opened.enter_context(
                closing(
                    Control(
                        Path(config.socket),
                        selector,
                        self._answer,
                        cell_user=config.cell_user,
                        cell_group=config.cell_group,
                    )
                )
            )
            self._links = opened.enter_context(closing(LinkNews()))
            selector.register(self._links, selectors.EVENT_READ, self._look_at_links)
            opened.callback(self._leave_bridge)
            self._find_bridge()
            self._opened = opened.pop_all()

    def close(self) -> None:
        self._opened.close()

    def work_until(self, stopped: Callable[[], bool], watchdog: Watchdog) -> None:
        """Serve whatever comes in, for as long as nobody has asked to stop; each turn feeds the watchdog."""
        while not stopped():
            pauses_s = [watchdog.feed(time.monotonic()), WRITE_BEHIND_S if self._bindings.unwritten else None]
            pause_s = min((each for each in pauses_s if each is not None), default=None)
            for key, events in self._selector.select(pause_s):
                now = self._selector.get_map().get(key.fd)
                if (
                    now is not None and now.fileobj is key.fileobj
                ):  # else an earlier one of this round closed it
                    key.data(events)
            self._write_behind()

    def _write_behind(self) -> None:
        if not self._bindings.unwritten:
            self._write_by_s = time.monotonic() + WRITE_BEHIND_S
        elif time.monotonic() >= self._write_by_s:
            self._write_by_s = time.monotonic() + WRITE_BEHIND_S
            try:
                self._bindings.write_noted()
            except StorageFull as error:
                say("leases.unwritten", error=error.message)

    # -- the cell ----------------------------------------------------------------------------------

    def _answer(self, ask: Ask) -> bytes:
        match ask:
            case Bind(entry):
                self._bindings.bind(entry)
            case Unbind(mac):
                self._bindings.unbind(mac)
            case Replace(entries):
                self._bindings.replace(entries)
            case List() | Watch():
                return encode_entries(tuple(self._bindings.entries.values()))
        return encode_entries(())

    # -- the bridge --------------------------------------------------------------------------------

    def _look_at_links(self, _events: int) -> None:
        self._links.drain()
        if self._bridge is None:
            self._find_bridge()
            return
        before = self._bridge.server
        try:
            self._bridge.look_again()
        except OSError as error:
            self._leave_bridge(str(error))
            self._find_bridge()
            return
        if self._bridge.server != before:
            self._say_who_serves(self._bridge)

    def _find_bridge(self) -> None:
        """Open it if it is there; if not, the news of its coming leads here again."""
        with suppress(OSError):
            self._bridge = Bridge(self._bridge_name)
            self._selector.register(self._bridge, selectors.EVENT_READ, self._hear_guests)
            self._say_who_serves(self._bridge)

    def _say_who_serves(self, bridge: Bridge) -> None:
        say(
            "bridge.served",
            bridge=bridge.name,
            server=str(bridge.server.address),
            mtu=bridge.server.mtu_bytes,
        )

    def _leave_bridge(self, reason: str = "the responder stops") -> None:
        if self._bridge is not None:
            self._selector.unregister(self._bridge)
            self._bridge.close()
            self._bridge = None
            say("bridge.left", bridge=self._bridge_name, reason=reason)

    def _hear_guests(self, _events: int) -> None:
        """Some frames, not all: under a flood the cell is heard too."""
        for _ in range(FRAMES_A_TURN):
            if self._bridge is None or (data := self._bridge.receive()) is None:
                return
            try:
                self._take(self._bridge, data)
            except Corrupt as error:
                self._refuse(error)

    def _take(self, bridge: Bridge, data: bytes) -> None:
        turn = dhcp.receive(self._bindings.entries, decode_frame(data), bridge.server, self._now_ms())
        if turn.reply is not None:
            bridge.send(encode_frame(turn.reply))
        if turn.entry is not None:
            self._bindings.note(turn.entry)
            self._control.publish(encode_entries((turn.entry,)))

    def _refuse(self, error: Corrupt) -> None:
        """Any guest can send rubbish for ever, so the log hears of it ever more rarely."""
        self._refused += 1
        if self._refused.bit_count() == 1:
            say("frame.refused", count=self._refused, reason=error.message)


def say(event: str, **facts: object) -> None:
    """One line of JSON on standard error, as all services log."""
    sys.stderr.write(json.dumps({"service": "responder", "event": event, **facts}) + "\n")


def serve(config: Config) -> None:
    """Run until SIGTERM or SIGINT."""
    stopping: list[int] = []
    bell, rope = socket.socketpair()
    with bell, rope, selectors.DefaultSelector() as selector:
        bell.setblocking(False)
        rope.setblocking(False)
        selector.register(bell, selectors.EVENT_READ, lambda _events: bell.recv(64))
        signal.set_wakeup_fd(rope.fileno())  # so that a signal ends the wait
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: stopping.append(number))
        with closing(Responder(config, selector, lambda: time.time_ns() // 1_000_000)) as responder:
            notify.ready(f"answers the guests of this host on {config.bridge}")
            say("service.ready", bridge=config.bridge)
            responder.work_until(lambda: bool(stopping), Watchdog(os.environ, os.getpid()))
            notify.stopping()
    say("service.stopped")


def main() -> int:
    parser = argparse.ArgumentParser(prog="nano-dhcp", description="The DHCP responder of one host.")
    parser.add_argument("--config", type=Path, default=Path("/etc/nano/responder.toml"))
    faulthandler.enable()  # the watchdog's SIGABRT shows in the log where it hung
    try:
        serve(read_config(parser.parse_args().config))
    except NanoError as error:
        notify.failed(error.message)
        say("service.failed", code=error.code, error=error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
