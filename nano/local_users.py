"""Who is at the other end of a UNIX socket of this host, and who may be. Light enough for the responder.

The mode of a socket keeps strangers out, and SO_PEERCRED (unix(7)) says who came in all the same: each end
judges the other by it, whatever happened to the files.
"""

import grp
import os
import pwd
import socket
import struct
from pathlib import Path

from nano.model.errors import Invalid

_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


def other_uid(connection: socket.socket) -> int:
    """The user who runs the process that connected, or that listened."""
    said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(said)[1])


def is_trusted(uid: int, user: str = "") -> bool:
    """Whether `uid` is root, this process's own user, or the one that the configuration names."""
    return uid in {0, os.geteuid()} or bool(user and uid == uid_of(user))


def uid_of(user: str) -> int | None:
    """The number of a user of this host; None when there is none of that name (yet)."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def user_text(uid: int) -> str:
    """For people: name and number, or the number alone."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return f"user {uid}"


def share(path: Path, group: str, *, field: str) -> None:
    """Have `group` open the socket at `path`, and nobody else but its owner; without a group only the owner.

    `Invalid` for `field`: there is no such group, or this process is not in it.
    """
    if not group:
        path.chmod(0o600)
        return
    try:
        open_to_group(path, gid_of(group, field=field), 0o660)
    except PermissionError as error:
        raise Invalid(
            field, f"{path} cannot be given to the group {group!r}: put the user of this service in it"
        ) from error


def open_to_group(path: Path, gid: int, mode: int) -> None:
    """`path` is the group's, with this mode. What is already needs no chown(2), which units forbid."""
    if path.stat().st_gid != gid:
        os.chown(path, -1, gid)
    path.chmod(mode)


def gid_of(group: str, *, field: str) -> int:
    """The number of a group of this host; `Invalid` for `field` when there is none of that name."""
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise Invalid(field, f"{field} names the group {group!r}, which this host does not have") from None
