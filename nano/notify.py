"""What a process tells its supervisor, in the words of sd_notify(3) and sd_watchdog_enabled(3).

They go to whoever set NOTIFY_SOCKET, so that systemd and a supervisor of ours hear the same; without one
nothing is said. Light enough for the DHCP responder, which has no asyncio; services speak by `nano.service`.
"""

import contextlib
import os
import socket
from collections.abc import Mapping

EXTENSION_S = 30.0
"""How much time a service that waits asks for at once: one that hangs is shot at the end of it."""


def notify(text: str) -> None:
    """Sends one datagram of assignments, one on each line."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        contextlib.suppress(
            ConnectionRefusedError, FileNotFoundError
        ),  # a supervisor that is gone needs none
    ):
        sender.sendto(text.encode(), "\0" + address[1:] if address.startswith("@") else address)


def ready(status: str) -> None:
    """The service answers now; `status` is what a person reads in `systemctl status`."""
    notify(f"READY=1\nSTATUS={one_line(status)}")


def stopping() -> None:
    notify("STOPPING=1\nSTATUS=stopping, as it was told to")


def failed(why: str) -> None:
    """Stays in `systemctl status` until the next start."""
    notify(f"STATUS=failed: {one_line(why)}")


def starting(waits_for: str) -> None:
    """The start goes on, and waits for something that it may wait for: more time for it."""
    notify(f"EXTEND_TIMEOUT_USEC={int(EXTENSION_S * 1_000_000)}\nSTATUS=waiting for {one_line(waits_for)}")


def one_line(text: str) -> str:
    """`text` without line ends, each of which would begin another assignment."""
    return " ".join(text.split())


class Watchdog:
    """The supervisor's watchdog, fed twice in each of its periods."""

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        """Fed only where `environment` asks this process (`pid`) for it: a child inherits the variables."""
        period_us = environment.get("WATCHDOG_USEC", "")
        is_ours = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        self._pause_s = int(period_us) / 2_000_000 if is_ours and period_us.isdecimal() else 0.0
        self._due_s = 0.0

    def feed(self, now_s: float) -> float | None:
        """Feed it if it is time; seconds until it is time again, None when there is no watchdog."""
        if not self._pause_s:
            return None
        if now_s >= self._due_s:
            notify("WATCHDOG=1")
            self._due_s = now_s + self._pause_s
        return self._due_s - now_s
