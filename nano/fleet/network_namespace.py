"""A network of this process's own: its bridges, ports and addresses clash with nobody's.

Python 3.11 has no `os.unshare`; the two system calls are made through the C library.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator

from nano.fleet.tools import run_tool

_CLONE_NEWNET = 0x4000_0000
"""From <linux/sched.h>."""


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Inside, this thread and what it starts see a fresh network with nothing but `lo`.

    Mounts and control groups stay as they are, which libvirt needs (`ip netns exec` would hide the latter).
    The network ends with the last process in it; its bridges end with it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(libc.unshare(_CLONE_NEWNET))
        try:
            run_tool("ip", "link", "set", "lo", "up")
            yield
        finally:
            _check(libc.setns(before, _CLONE_NEWNET))
    finally:
        os.close(before)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
