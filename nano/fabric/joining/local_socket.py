"""A UNIX socket of this host that only root, the user who made it, and a group that he names can open.

The mode of the socket, that of its folder and SO_PEERCRED (`nano.local_users`) say so, each by itself. The
socket appears by a rename and is ready when it does; one that a killed process left behind is replaced.
"""

import asyncio
import os
import socket
from pathlib import Path

from nano.local_users import is_trusted, share
from nano.model.errors import Invalid

LINE_LIMIT_BYTES = 16 * 1024
"""Far above any honest line (about 1.5 KiB), far below what hurts."""

_PATH_LIMIT_BYTES = 106  # unix(7): 108 with the closing zero, and one for the draft's name


def listen(path: Path, *, field: str, group: str = "") -> socket.socket:
    """A listening socket at `path`, in place of a dead one; `Invalid` for `field` if it is not safe there."""
    check_path(path, field=field)
    _check_folder(path.parent, field)
    draft = path.with_name(f"{path.name}~")
    draft.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.bind(os.fspath(draft))
        share(draft, group, field=field)
        listener.listen()
        draft.replace(path)
    except BaseException:
        listener.close()
        raise
    return listener


def check_path(path: Path, *, field: str) -> None:
    if len(os.fsencode(path)) > _PATH_LIMIT_BYTES:
        raise Invalid(field, f"{path} is too long for a socket: at most {_PATH_LIMIT_BYTES} bytes")


def _check_folder(folder: Path, field: str) -> None:
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    found = folder.stat()
    if not is_trusted(found.st_uid) or found.st_mode & 0o022:
        raise Invalid(
            field,
            f"others could put a socket of theirs into {folder}: give it to root, or to the user of this "
            "service, with mode 0755 or 0700",
        )


async def read_line(connection: socket.socket) -> bytes:
    """Up to and with the first newline; what came until the end, or the limit, if none did."""
    loop = asyncio.get_running_loop()
    got = bytearray()
    while b"\n" not in got and len(got) < LINE_LIMIT_BYTES:
        piece = await loop.sock_recv(connection, LINE_LIMIT_BYTES - len(got))
        if not piece:
            break
        got += piece
    return bytes(got)
