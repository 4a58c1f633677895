"""Waiting for what a file says, told by the kernel (inotify(7)) whenever something in its folder is replaced.

Python has no inotify of its own; the three calls are made through the C library.
"""

import asyncio
import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_IN_CLOSE_WRITE, _IN_MOVED_TO, _IN_CREATE = 0x8, 0x80, 0x100
"""From <sys/inotify.h>."""


async def until_said(folder: Path, look: Callable[[], T | None], within_s: float) -> T:
    """What `look` finds, as soon as it finds something; it looks now, and at each change in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def changed() -> None:
        os.read(watch, 64 * 1024)
        news.set()

    try:
        if (
            watch < 0
            or libc.inotify_add_watch(watch, os.fsencode(folder), _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_CREATE)
            < 0
        ):
            raise OSError(ctypes.get_errno(), "inotify")
        loop.add_reader(watch, changed)
        async with asyncio.timeout(within_s):
            while (found := look()) is None:
                await news.wait()
                news.clear()
        return found
    finally:
        loop.remove_reader(watch)
        os.close(watch)
