"""The model's errors as gRPC statuses and back: the one place for it.

The status says it to any client of gRPC; a trailer beside it carries the fields, so that a client of ours
raises the same class again. A status without that trailer, from a foreign server or a proxy, gives the class
that fits.
"""

import msgspec
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from nano.model import errors
from nano.model.errors import NanoError

DETAIL_TRAILER = "nano-error-bin"
MESSAGE_LIMIT = 2_000
"""Longest message that travels: a header block must stay small."""

_STATUS: dict[type[NanoError], Status] = {
    NanoError: Status.UNKNOWN,
    errors.Invalid: Status.INVALID_ARGUMENT,
    errors.NotFound: Status.NOT_FOUND,
    errors.Exists: Status.ALREADY_EXISTS,
    errors.Conflict: Status.FAILED_PRECONDITION,
    errors.Busy: Status.ABORTED,
    errors.Exhausted: Status.RESOURCE_EXHAUSTED,
    errors.Forbidden: Status.PERMISSION_DENIED,
    errors.Untrusted: Status.UNAUTHENTICATED,
    errors.Unreachable: Status.UNAVAILABLE,
    errors.TimedOut: Status.DEADLINE_EXCEEDED,
    errors.Cancelled: Status.CANCELLED,
    errors.Unsupported: Status.UNIMPLEMENTED,
    errors.Corrupt: Status.DATA_LOSS,
    errors.Stale: Status.OUT_OF_RANGE,
    errors.Internal: Status.INTERNAL,
}

_KIND: dict[Status, type[NanoError]] = {status: kind for kind, status in _STATUS.items()}

_HTTP: dict[Status, int] = {
    Status.INVALID_ARGUMENT: 400,
    Status.UNAUTHENTICATED: 401,
    Status.PERMISSION_DENIED: 403,
    Status.NOT_FOUND: 404,
    Status.ALREADY_EXISTS: 409,
    Status.FAILED_PRECONDITION: 409,
    Status.ABORTED: 409,
    Status.OUT_OF_RANGE: 416,
    Status.RESOURCE_EXHAUSTED: 429,
    Status.UNIMPLEMENTED: 501,
    Status.UNAVAILABLE: 503,
    Status.DEADLINE_EXCEEDED: 504,
}


class Detail(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fields of an error beside its message."""

    code: str
    field: str = ""
    subject: str = ""
    retry_after_s: float = 0.0


def status_of(error: NanoError) -> Status:
    """The status of an error: that of its class, or of the nearest one above it."""
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def http_status_of(error: NanoError) -> int:
    """The same for a bulk answer, which is plain HTTP."""
    return _HTTP.get(status_of(error), 500)


def message_of(error: NanoError) -> str:
    return error.message[:MESSAGE_LIMIT]


def detail_of(error: NanoError) -> bytes:
    """What stands in the trailer."""
    return msgspec.json.encode(
        Detail(error.code, error.field[:MESSAGE_LIMIT], error.subject[:MESSAGE_LIMIT], error.retry_after_s)
    )


def error_of(status: Status, message: str | None, detail: bytes | None) -> NanoError:
    """The error that a status and its trailer stand for; a trailer that cannot be read counts as none."""
    text = message or status.name.lower().replace("_", " ")
    if detail is not None:
        try:
            found = msgspec.json.decode(detail, type=Detail)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        else:
            return errors.from_code(
                found.code,
                text,
                field=found.field,
                subject=found.subject,
                retry_after_s=found.retry_after_s,
            )
    kind = _KIND.get(status, NanoError)
    return errors.from_code(kind.code, text)


def error_of_grpc(error: GRPCError) -> NanoError:
    """The error for what grpclib itself found wrong with an answer."""
    return error_of(error.status, error.message, None)
