"""Networks for measurements: two namespaces with a cable between them, made and removed here."""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNET = 0x4000_0000
"""From <linux/sched.h>."""


@dataclass(frozen=True, slots=True)
class Network:
    """Where the two sides are: namespaces by name (None: the machine's own network), and the server's
    address."""

    name: str
    host: str
    server: str | None = None
    client: str | None = None
    is_far: bool = False
    """Whether a relay of ours is on the way. Then all ends run before other processes of the machine, as the
    relay does: what is measured is a path, and no wait for the processor. Otherwise each has a core of its
    own."""


LOOPBACK = Network("loopback", "127.0.0.1")


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def namespaces() -> Iterator[tuple[str, str]]:
    """Two empty ones for the time of the context."""
    names = f"nano-bench-{os.getpid()}-a", f"nano-bench-{os.getpid()}-b"
    with contextlib.ExitStack() as up:
        for name in names:
            run("ip", "netns", "add", name)
            up.callback(run, "ip", "netns", "delete", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        yield names


@contextlib.contextmanager
def cable(mtu: int) -> Iterator[Network]:
    """Two hosts on a veth pair."""
    with namespaces() as (server, client):
        pair = ("type", "veth", "peer", "name", "cable", "netns", client)
        run("ip", "-n", server, "link", "add", "cable", "mtu", str(mtu), *pair, "mtu", str(mtu))
        for name, address in ((server, "10.77.0.1"), (client, "10.77.0.2")):
            configure(name, "cable", address)
        yield Network(f"veth, MTU {mtu}", "10.77.0.1", server, client)


def configure(namespace: str, interface: str, address: str) -> None:
    run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", interface)
    run("ip", "-n", namespace, "link", "set", interface, "up")


def enter(namespace: str | None) -> None:
    """Have this thread, and what it opens and starts from now on, see the network of `namespace`."""
    if namespace is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(Path("/run/netns") / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"namespace {namespace}")
    finally:
        os.close(descriptor)


def within(namespace: str | None, *command: str) -> tuple[str, ...]:
    """`command`, to run in a namespace."""
    return command if namespace is None else ("ip", "netns", "exec", namespace, *command)


@contextlib.contextmanager
def far_path(
    folder: Path, *, round_trip_ms: float, loss: float, mbit_per_s: int, seed: int = 1
) -> Iterator[Network]:
    """Two hosts on a path with a delay, a rate with a queue of 50 ms behind it, and random losses each way.

    Its relay is compiled into `folder`, once.
    """
    program = folder / "far_path"
    if not program.exists():
        run("cc", "-O2", "-o", str(program), str(Path(__file__).with_name("far_path.c")))
    with namespaces() as (server, client):
        numbers = (round_trip_ms * 500, loss * 1e6, mbit_per_s, 50_000, seed)
        command = (str(program), server, client, *(f"{number:.0f}" for number in numbers))
        with subprocess.Popen(command, stdout=subprocess.PIPE) as relay:
            assert relay.stdout is not None
            try:
                if relay.stdout.readline() != b"up\n":
                    raise OSError("the relay did not start: it needs root and /dev/net/tun")
                for name, address in ((server, "10.78.0.1"), (client, "10.78.0.2")):
                    configure(name, "far", address)
                    run("ip", "-n", name, "link", "set", "far", "mtu", "1500", "txqueuelen", "5000")
                yield Network(
                    f"{round_trip_ms:g} ms, loss {loss:.1%}", "10.78.0.1", server, client, is_far=True
                )
            finally:
                relay.kill()
