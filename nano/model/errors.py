"""What can go wrong, as facts with fields.

    NanoError                    what happened, to what, what to do next
    ├── Invalid                  the request cannot be meant like that; names the field
    ├── NotFound                 no such thing
    ├── Exists                   the name is taken
    ├── Conflict                 the thing is not in a state for it
    │   └── Busy                 another task holds it
    ├── Exhausted                no room, no address, no memory for one more
    │   ├── NoRoom               no cell of the pool can hold the instance
    │   ├── NoAddress            every range of the address pool is used up
    │   └── StorageFull          the disk refuses another write
    ├── Forbidden                the caller may not do this
    │   └── Untrusted            the peer did not prove who it is
    ├── Unreachable              a peer is not there now; nothing is known to have happened
    ├── TimedOut                 the deadline passed
    ├── Cancelled                somebody asked for it to stop
    ├── Unsupported              this host, or this kind of thing, cannot do it
    ├── Corrupt                  stored or received bytes are not what they claim to be
    ├── Stale                    a cursor is too old or of another life: read everything again
    └── Internal                 a defect of ours; carries the id under which it was logged

`fabric/status.py` turns them into gRPC statuses and back, the gateway's `envelope.py` into HTTP; none else.
"""

from typing import ClassVar


class NanoError(Exception):
    """What happened, to what, and what to do next.

    `code` is the stable word for programs; `field` names the member of the request that is wrong, if one is;
    `subject` is the id of what it happened to; `retry_after_s` is a hint for errors that pass by themselves.
    """

    code: ClassVar[str] = "error"

    def __init__(
        self, message: str, *, field: str = "", subject: str = "", retry_after_s: float = 0.0
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.subject = subject
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        return (_again, (type(self).code, self.message, self.field, self.subject, self.retry_after_s))


class Invalid(NanoError):
    """The request cannot be meant like that. Build it with the field first: `Invalid("cores", "…")`."""

    code = "invalid"

    def __init__(self, field: str, message: str, *, subject: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message, field=field, subject=subject, retry_after_s=retry_after_s)


class NotFound(NanoError):
    code = "not_found"


class Exists(NanoError):
    code = "exists"


class Conflict(NanoError):
    code = "conflict"


class Busy(Conflict):
    """Another task holds it: `subject` is what is held, the message names the holder."""

    code = "busy"


class Exhausted(NanoError):
    code = "exhausted"


class NoRoom(Exhausted):
    code = "no_room"


class NoAddress(Exhausted):
    code = "no_address"


class StorageFull(Exhausted):
    code = "storage_full"


class Forbidden(NanoError):
    code = "forbidden"


class Untrusted(Forbidden):
    code = "untrusted"


class Unreachable(NanoError):
    code = "unreachable"


class TimedOut(NanoError):
    code = "timed_out"


class Cancelled(NanoError):
    code = "cancelled"


class Unsupported(NanoError):
    code = "unsupported"


class Corrupt(NanoError):
    code = "corrupt"


class Stale(NanoError):
    code = "stale"


class Internal(NanoError):
    code = "internal"


def _all(base: type[NanoError]) -> list[type[NanoError]]:
    return [base, *(found for child in base.__subclasses__() for found in _all(child))]


BY_CODE: dict[str, type[NanoError]] = {kind.code: kind for kind in _all(NanoError)}
"""Every kind of error by its stable word."""


def from_code(
    code: str, message: str, *, field: str = "", subject: str = "", retry_after_s: float = 0.0
) -> NanoError:
    """The error that a stored or received code stands for; an unknown word gives the plain `NanoError`."""
    kind = BY_CODE.get(code, NanoError)
    if issubclass(kind, Invalid):
        return kind(field, message, subject=subject, retry_after_s=retry_after_s)
    return kind(message, field=field, subject=subject, retry_after_s=retry_after_s)


def _again(code: str, message: str, field: str, subject: str, retry_after_s: float) -> NanoError:
    return from_code(code, message, field=field, subject=subject, retry_after_s=retry_after_s)
