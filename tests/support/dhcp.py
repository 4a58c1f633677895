"""A host with a bridge, its DHCP responder as a real process, and guests that speak for themselves."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

from nano.bindings.client import Responder
from nano.bindings.messages import Entry
from nano.fleet.tools import run_tool
from nano.model.address import Binding, Provider
from nano.model.errors import Corrupt
from services.addresspool.packet import (
    EVERY_MAC,
    EVERYBODY,
    NOWHERE,
    Frame,
    Kind,
    Message,
    Op,
    Option,
    decode,
    decode_frame,
    encode,
    encode_frame,
    mac_text,
)

PATIENCE_S = 20.0
"""A bound, never a wait: everything here is answered within milliseconds on an idle machine."""
HOST = IPv4Address("10.0.0.1")


def binding(last_octet: int, owner: str = "vm") -> Binding:
    return Binding(
        f"{owner}/0",
        IPv4Address(f"10.0.0.{last_octet}"),
        IPv4Address("255.255.255.0"),
        HOST,
        (IPv4Address("10.0.0.53"),),
        Provider.DHCP,
    )


def make_bridge(name: str, *ports: str) -> None:
    """A bridge with the host's address, and a cable into it for each port, whose name the guest's end has."""
    run_tool("ip", "link", "add", name, "address", "02:4e:0a:00:00:01", "type", "bridge")
    run_tool("ip", "address", "add", f"{HOST}/24", "dev", name)
    for port in ports:
        run_tool("ip", "link", "add", port, "type", "veth", "peer", "name", f"{port}-tap")
        run_tool("ip", "link", "set", f"{port}-tap", "master", name, "up")
        run_tool("ip", "link", "set", port, "up")
    run_tool("ip", "link", "set", name, "up")


def remove_bridge(name: str, *ports: str) -> None:
    for link in (*ports, name):
        run_tool("ip", "link", "delete", link)


class Guest:
    """One network card, spoken through by hand."""

    def __init__(self, port: str) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self.socket.bind((port, 0))
        self.socket.settimeout(PATIENCE_S)
        self.mac = mac_text(self.socket.getsockname()[4])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(
        self,
        kind: Kind,
        xid: int,
        options: Mapping[Option, bytes] | None = None,
        *,
        ciaddr: IPv4Address = NOWHERE,
    ) -> None:
        message = Message(
            Op.REQUEST,
            kind,
            xid,
            self.mac,
            ciaddr=ciaddr,
            options={int(number): value for number, value in (options or {}).items()},
        )
        self.send(encode(message))

    def send(self, payload: bytes) -> None:
        self.socket.send(encode_frame(Frame(self.mac, EVERY_MAC, NOWHERE, EVERYBODY, 68, 67, payload)))

    def heard(self) -> Message:
        """The next DHCP message to a client on this cable; `TimeoutError` when none comes."""
        while True:
            data, sender = self.socket.recvfrom(65_536)
            if sender[2] == socket.PACKET_OUTGOING:
                continue
            try:
                frame = decode_frame(data)
            except Corrupt:
                continue
            if frame.target_port == 68:
                return decode(frame.payload)

    def ask(
        self,
        kind: Kind,
        xid: int,
        options: Mapping[Option, bytes] | None = None,
        *,
        ciaddr: IPv4Address = NOWHERE,
    ) -> Message:
        self.say(kind, xid, options, ciaddr=ciaddr)
        return self.heard()

    def take_lease(self, address: IPv4Address) -> Message:
        """Discover, offer, request, acknowledgement."""
        offer = self.ask(Kind.DISCOVER, 1)
        assert (offer.kind, offer.yiaddr) == (Kind.OFFER, address)
        chosen = {Option.SERVER_ID: offer.server.packed, Option.REQUESTED_ADDRESS: address.packed}
        ack = self.ask(Kind.REQUEST, 2, chosen)
        assert (ack.kind, ack.yiaddr) == (Kind.ACK, address)
        return ack


class ResponderProcess:
    """The responder as systemd would start it; its log is read line by line."""

    def __init__(self, folder: Path, bridge: str = "br0", within: tuple[str, ...] = ()) -> None:
        """`within` is the command that runs it elsewhere, such as nsenter's."""
        self._within = within
        self.config = folder / "responder.toml"
        self.socket = folder / "run" / "dhcp.sock"
        self.file = folder / "data" / "bindings.json"
        self.config.write_text(f'bridge = "{bridge}"\nsocket = "{self.socket}"\nfile = "{self.file}"\n')
        self.client = Responder(str(self.socket))
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def spawn(self, *, notify: str = "", watchdog_us: int = 0) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *self._within,
                sys.executable,
                "-m",
                "services.addresspool.responder",
                "--config",
                str(self.config),
            ],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NOTIFY_SOCKET": notify, "WATCHDOG_USEC": str(watchdog_us)},
        )

    def start(self) -> None:
        """Returns when it says that it is ready, in systemd's words."""
        path = self.config.with_name("notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.settimeout(PATIENCE_S)
            listener.bind(str(path))
            self._process = self.spawn(notify=str(path))
            assert listener.recv(200).startswith(b"READY=1\n")
        path.unlink()

    def logged(self, event: str) -> dict[str, object]:
        """The next line of that name in its log; the test's own limit bounds the wait."""
        assert self._process is not None
        assert self._process.stderr is not None
        for line in self._process.stderr:
            facts: dict[str, object] = json.loads(line)
            if facts["event"] == event:
                return facts
        raise AssertionError(f"the responder ended without saying {event}")

    def serves_bridge(self) -> None:
        """Returns when it says that it serves the bridge under the host's address."""
        while self.logged("bridge.served")["server"] != str(HOST):
            continue

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        process, self._process = self._process, None
        with process:
            process.send_signal(number)
            return process.wait(PATIENCE_S)

    @contextmanager
    def running(self) -> Iterator[Self]:
        self.start()
        try:
            yield self
        finally:
            if self._process is not None:
                self.stop()

    async def entry(self, mac: str) -> Entry:
        return next(entry for entry in await self.client.list() if entry.mac == mac)
