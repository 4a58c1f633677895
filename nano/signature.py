"""The documented signature of REST requests (REST document, sections 1 and 12): what is signed, and how.

Pure: the gateway judges with it what `nanoctl` signs with it. A request is signed over its path, its query,
the headers that the signer lists and the digest of its body; the method is not part of it, which is a fault
of the documented scheme that its clients share.

    canonical request = esc(esc(path)) \\n query \\n headers \\n\\n names [\\n hex(SHA-256(body))]
    text to sign      = "Nano-HMAC-SHA256" \\n date \\n scope \\n hex(SHA-256(canonical request))
    key               = HMAC-SHA-256("nano" + secret, scope)
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

METHOD = "Nano-HMAC-SHA256"
EMPTY_DIGEST = hashlib.sha256(b"").hexdigest()
AUTHORIZATION = "nano-authorization"
DATE = "nano-date"
SCOPE = "nano-scope"
SESSION = "nano-session"

_TOKENS = ("Credential", "SignedHeaders", "Signature")
_KEPT = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
_BLANK = 0x20
_HEX = frozenset(b"0123456789abcdefABCDEF")
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
_STREAM = re.compile(rb"/api/v1/(media|disk)_images/[^/]+/file/")


class Malformed(ValueError):
    """The authorization value is none; the text is the documented refusal."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """What a `Nano-Authorization` header claims."""

    api_id: str
    scope: str
    signed_headers: str
    """As it was written: `host;nano-date`. Order counts, and the text itself is signed."""
    signature: str


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of a request that can be signed."""

    path: bytes
    """Percent-decoded."""
    query: bytes
    """As on the wire, without the question mark."""
    headers: Mapping[str, str]
    """The first value of each header by its name in lower case."""
    body_digest: str | None
    """Hex SHA-256 as `body_digest` gives it; None where the body is left out of the signature."""


# ------------------------------------------------------------------ escaping


def escape(value: bytes) -> str:
    """Form escaping: a blank becomes `+`, what is not unreserved (RFC 3986) becomes `%XX` in upper case."""
    return "".join(
        chr(byte) if byte in _KEPT else "+" if byte == _BLANK else f"%{byte:02X}" for byte in value
    )


def percent_decode(text: bytes, *, form: bool = False) -> bytes:
    """The bytes behind a percent-encoded text; with `form` a `+` is a blank. ValueError when malformed."""
    pieces = text.replace(b"+", b" ").split(b"%") if form else text.split(b"%")
    decoded = [pieces[0]]
    for piece in pieces[1:]:
        digits = piece[:2]
        if len(digits) != 2 or not _HEX.issuperset(digits):  # noqa: PLR2004 - two digits make a byte
            raise ValueError(f"%{digits.decode('latin-1')} is not a percent-encoded byte")
        decoded.append(bytes((int(digits, 16),)) + piece[2:])
    return b"".join(decoded)


def query_pairs(query: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values of a query in their order, form-decoded.

    A name without `=` has the empty value. A pair that is malformed, or holds a semicolon, is left out, as
    the documented server leaves it out: so what is signed is exactly what is read.
    """
    pairs = []
    for pair in query.split(b"&"):
        if not pair or b";" in pair:
            continue
        name, _, value = pair.partition(b"=")
        try:
            pairs.append((percent_decode(name, form=True), percent_decode(value, form=True)))
        except ValueError:
            continue
    return pairs


# ------------------------------------------------------------------ what is signed


def is_stream(path: bytes) -> bool:
    """Whether a request for this path leaves its body out of the signature (image files)."""
    return _STREAM.fullmatch(path) is not None


def body_digest(method: str, path: bytes, body: bytes) -> str | None:
    """What stands for the body in the canonical request."""
    if is_stream(path):
        return None
    return EMPTY_DIGEST if method in _BODILESS else hashlib.sha256(body).hexdigest()


def canonical_request(request: Request, signed_headers: str) -> str:
    """The text whose digest is signed."""
    names = signed_headers.split(";")
    lines = [
        escape(escape(request.path).encode()),
        _canonical_query(request.query),
        "".join(f"{name}:{request.headers[name].strip()}\n" for name in names if name in request.headers),
        signed_headers,
    ]
    if request.body_digest is not None:
        lines.append(request.body_digest)
    return "\n".join(lines)


def _canonical_query(query: bytes) -> str:
    """Only the first value of a repeated name counts."""
    first: dict[bytes, bytes] = {}
    for name, value in query_pairs(query):
        first.setdefault(name, value)
    return "&".join(f"{escape(name)}={escape(first[name])}" for name in sorted(first))


def signature(request: Request, *, signed_headers: str, secret: str, date: str, scope: str) -> str:
    """The signature in lower-case hex."""
    canonical = hashlib.sha256(canonical_request(request, signed_headers).encode()).hexdigest()
    text = f"{METHOD}\n{date}\n{scope}\n{canonical}"
    key = hmac.digest(f"nano{secret}".encode(), scope.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


# ------------------------------------------------------------------ the authorization value


def parse_authorization(value: str) -> Authorization:
    """The claim in a `Nano-Authorization` header; Malformed carries the documented text.

    The method, one character, then exactly three tokens in their order; blanks around names and values go.
    """
    if not value:
        raise Malformed("authorization required")
    if len(value) <= len(METHOD):
        raise Malformed(f"insufficent authorization: {value}")
    if not value.startswith(METHOD):
        raise Malformed(f"invalid signature method: {value[: len(METHOD)]}")
    tokens = value[len(METHOD) + 1 :].split(",")
    if len(tokens) != len(_TOKENS):
        raise Malformed(f"insufficent authorization: {value}")
    credential, signed_headers, given = (
        _token(token, name) for token, name in zip(tokens, _TOKENS, strict=True)
    )
    api_id, slash, scope = credential.partition("/")
    if not slash or not api_id:
        raise Malformed(f"invalid API ID: {credential}")
    return Authorization(api_id, scope, signed_headers, given)


def _token(token: str, wanted: str) -> str:
    name, equals, value = token.partition("=")
    if not equals or name.strip() != wanted:
        raise Malformed(f"invalid authorization token: {token}")
    return value.strip()


def authorization_value(claim: Authorization) -> str:
    return (
        f"{METHOD} Credential={claim.api_id}/{claim.scope}, SignedHeaders={claim.signed_headers}, "
        f"Signature={claim.signature}"
    )


# ------------------------------------------------------------------ for clients


def sign(
    request: Request, *, api_id: str, secret: str, at: datetime, session: str = "nanoctl"
) -> dict[str, str]:
    """The headers that make this request a signed one; `request.headers` holds at least its `host`.

    `at` is an aware time; whole seconds of it are used. Signed are, in the documented order, host, content
    type (if the request has one), session, date and scope.
    """
    date = at.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    scope = f"{at:%Y%m%d}/default/nano_request"
    added = {SESSION: session, DATE: date, SCOPE: scope}
    named = ("host", *(("content-type",) if "content-type" in request.headers else ()), SESSION, DATE, SCOPE)
    full = Request(request.path, request.query, {**request.headers, **added}, request.body_digest)
    signed_headers = ";".join(named)
    given = signature(full, signed_headers=signed_headers, secret=secret, date=date, scope=scope)
    claim = Authorization(api_id, scope, signed_headers, given)
    return {**added, AUTHORIZATION: authorization_value(claim)}


def signed_call(
    method: str,
    path: str,
    *,
    host: str,
    api_id: str,
    secret: str,
    at: datetime,
    query: str = "",
    body: bytes = b"",
    session: str = "nanoctl",
) -> tuple[str, dict[str, str]]:
    """The target of a request, percent-encoded, and the headers that sign it, `host` among them.

    `path` is plain and has the prefix, `query` is encoded already; the content type is left unsigned, as
    documented for streams and allowed for all.
    """
    plain = path.encode()
    headers = {"host": host}
    request = Request(plain, query.encode(), headers, body_digest(method, plain, body))
    added = sign(request, api_id=api_id, secret=secret, at=at, session=session)
    return quote(plain) + (f"?{query}" if query else ""), headers | added
