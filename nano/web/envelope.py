"""The documented envelope, and what our errors are in HTTP.

Old clients see what they know: `{"error_code", "message", "data"}`, HTTP 200 even for a failure (REST
document, section 2). `error_code` is always the fitting HTTP number, where the documented server knows only
500. Whoever asks for `application/problem+json` gets that number as the real status and RFC 9457 bodies.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from nano import codec
from nano.model import errors
from nano.model.errors import NanoError

TEXT = "text/plain; charset=utf-8"
"""How the documented server labels its JSON."""
PROBLEM = "application/problem+json"

_STATUS: tuple[tuple[type[NanoError], int], ...] = (
    (errors.Untrusted, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Exists, 409),
    (errors.Conflict, 409),
    (errors.NoRoom, 409),
    (errors.NoAddress, 409),
    (errors.StorageFull, 507),
    (errors.Exhausted, 429),
    (errors.Stale, 410),
    (errors.Cancelled, 409),
    (errors.Corrupt, 422),
    (errors.Invalid, 400),
    (errors.Unsupported, 501),
    (errors.Unreachable, 503),
    (errors.TimedOut, 504),
)
"""The first line that fits counts; what is on no line is 500."""

_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)
"""These stand only inside of texts, so the bytes may be replaced wherever they are."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: a status, a body and how to read it."""

    body: bytes
    status: int = 200
    media_type: str = TEXT
    headers: dict[str, str] = field(default_factory=dict)


def status_of(error: NanoError) -> int:
    """The HTTP number that fits an error."""
    if error.field == "Idempotency-Key" and error.subject:
        return 422  # the key named another request: draft-ietf-httpapi-idempotency-key-header, section 2.7
    return next((number for kind, number in _STATUS if isinstance(error, kind)), 500)


def success(data: Any = "", status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """A result; an operation without one answers the empty text."""
    return Answer(
        written({"error_code": 0, "message": "", "data": data}), status, headers=dict(headers or {})
    )


def failure(error: NanoError, *, accept: str = "", no_data: dict[str, str] | str | None = None) -> Answer:
    """An error, in the form that the client asked for by its `Accept` header.

    `no_data` is what stands for the data that there is none of: `{}` at the gateway, `""` at the portal.
    """
    number = status_of(error)
    headers = {"Retry-After": str(max(1, round(error.retry_after_s)))} if error.retry_after_s else {}
    if not wants_problem(accept):
        return Answer(
            written(Failure(number, error.message, {} if no_data is None else no_data)), headers=headers
        )
    return Answer(written(_problem(error, number)), number, PROBLEM, headers)


def wants_problem(accept: str) -> bool:
    return any(kind.partition(";")[0].strip().lower() == PROBLEM for kind in accept.split(","))


def _problem(error: NanoError, number: int) -> "Problem":
    return Problem(
        type=f"urn:nano:error:{error.code}",
        title=error.code.replace("_", " "),
        status=number,
        detail=error.message,
        code=error.code,
        field=error.field,
        subject=error.subject,
    )


class Failure(msgspec.Struct):
    """How an old client is told of an error, with HTTP 200."""

    error_code: int
    """The HTTP number that fits."""
    message: str
    data: dict[str, str] | str = {}
    """Always `{}`, or `""` from the portal itself."""


class Problem(msgspec.Struct, omit_defaults=True):
    """RFC 9457, section 3; the last three members are extensions."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str = ""
    """The member of the request that is wrong."""
    subject: str = ""
    """The id of what it happened to."""


def written(document: Any) -> bytes:
    """JSON as the documented server writes it: two blanks a level, `< > &` escaped, a final newline."""
    text = msgspec.json.format(msgspec.json.encode(document, enc_hook=codec.enc_hook), indent=2)
    for plain, escaped in _ESCAPES:
        if plain in text:
            text = text.replace(plain, escaped)
    return text + b"\n"


def local_time(at_ms: int) -> str:
    """A time as answers show it: of the server's own zone, without the zone; empty for never."""
    if not at_ms:
        return ""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
