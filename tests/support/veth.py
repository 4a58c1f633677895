"""A second network, joined to this one by a wire: another server, as far as the fabric can tell."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nano.fleet.tools import run_tool

HERE, THERE = "10.99.0.1", "10.99.0.2"
_WIRE, _FAR_END = "nanowire0", "nanowire1"


@dataclass(frozen=True, slots=True)
class OtherServer:
    """A network namespace that lives as long as its holder."""

    holder: int
    """The process whose network it is."""

    def command(self, *words: str) -> list[str]:
        """The same command, as the other server runs it."""
        return ["nsenter", "--target", str(self.holder), "--net", *words]

    def cut(self) -> None:
        run_tool("ip", "link", "set", _WIRE, "down")

    def mend(self) -> None:
        run_tool("ip", "link", "set", _WIRE, "up")


@contextmanager
def other_server() -> Iterator[OtherServer]:
    """From within a network of our own (`netns.py`): `HERE` is we, `THERE` the other."""
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity"], stdout=subprocess.PIPE, text=True
    ) as held:
        try:
            assert held.stdout is not None
            assert held.stdout.readline() == "ready\n"
            other = OtherServer(held.pid)
            run_tool(
                "ip", "link", "add", _WIRE, "type", "veth", "peer", "name", _FAR_END, "netns", str(held.pid)
            )
            run_tool("ip", "address", "add", f"{HERE}/24", "dev", _WIRE)
            run_tool("ip", "link", "set", _WIRE, "up")
            for words in (
                ("link", "set", "lo", "up"),
                ("address", "add", f"{THERE}/24", "dev", _FAR_END),
                ("link", "set", _FAR_END, "up"),
            ):
                run_tool(*other.command("ip", *words))
            yield other
        finally:
            os.kill(held.pid, signal.SIGTERM)
