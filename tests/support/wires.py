"""Hosts of their own, joined by wires: network namespaces whose interfaces and addresses a test changes."""

import contextlib
import ctypes
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_CLONE_NEWNET = 0x4000_0000
"""From <linux/sched.h>."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def on_host(host: str) -> Iterator[None]:
    """Sockets that this thread opens inside are of that host."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open("rb") as before, Path("/run/netns", host).open("rb") as there:
        assert libc.setns(there.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(before.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


class Hosts:
    """Named network namespaces of this test."""

    def __init__(self) -> None:
        self._tag = secrets.token_hex(3)
        self._made: list[str] = []

    def add(self, name: str) -> str:
        """A host with nothing but its loopback; gives its namespace."""
        host = f"nano-{self._tag}-{name}"
        ip("netns", "add", host)
        self._made.append(host)
        ip("-n", host, "link", "set", "lo", "up")
        return host

    def wire(self, name: str, left: tuple[str, str], right: tuple[str, str]) -> None:
        """An interface `name` at both, each a host and its address with prefix length."""
        ip("link", "add", name, "netns", left[0], "type", "veth", "peer", "name", name, "netns", right[0])
        for host, address in (left, right):
            ip("-n", host, "address", "add", address, "dev", name)
            ip("-n", host, "link", "set", name, "up")

    def move(self, host: str, device: str, before: str, after: str) -> None:
        """The address of an interface is replaced. In this order: a second one would go with the first."""
        ip("-n", host, "address", "delete", before, "dev", device)
        ip("-n", host, "address", "add", after, "dev", device)

    def remove(self) -> None:
        for host in self._made:
            subprocess.run(["ip", "netns", "delete", host], check=False, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Gone afterwards, with all that was changed in them."""
    found = Hosts()
    try:
        yield found
    finally:
        found.remove()
