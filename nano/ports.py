"""What to say when an address and port cannot be had, as on a host with two Nanos."""

import errno

from nano.model.errors import Conflict


def cannot_bind(transport: str, host: str, port: int, error: OSError, *, settings: str) -> Conflict:
    """One line that names address and port, and what to do next. `transport` is TCP or UDP; `settings` says
    where the configuration has them.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            listing = f"`ss -{transport[0].lower()}lnp 'sport = :{port}'`"
            advice = f"stop who has it, another Nano perhaps ({listing} tells), or set {settings}"
        case errno.EADDRNOTAVAIL:
            advice = f"no interface of this host has that address, set {settings}"
        case errno.EACCES | errno.EPERM:
            advice = f"this user may not have it, set {settings}"
        case _:
            advice = f"set {settings}"
    return Conflict(f"{transport} {where} cannot be bound: {error.strerror}; {advice}")
