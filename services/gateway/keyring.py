"""Who may call the REST API: credentials, and the judgement of a signed request. No clock, no I/O.

A refusal is `Untrusted` with the text that the documented server gives (REST document, 12.2); it says no more
than that one does. Id, date and scope are judged before the signature.
"""

import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from nano import signature
from nano.model.errors import Untrusted
from nano.web.keys import Credential

WINDOW_S = 900.0
"""How far `Nano-Date` may lie from our clock, either way. The documented server takes the whole calendar day
of its own zone; a signature can be replayed for as long as it is taken (docs/decisions: the signature's
window)."""

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_ID_BYTES = 9
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as it came, of which nothing is believed yet."""

    parts: signature.Request
    authorization: str
    """The header's value; empty when it is missing."""


class Keyring:
    """The credentials, by id."""

    def __init__(self, credentials: Iterable[Credential]) -> None:
        self._by_id = {one.id: one for one in credentials}

    def verify(self, request: SignedRequest, now_s: float) -> Credential:
        """The credential that signed this request; `now_s` is the time in seconds since 1970 UTC."""
        if request.parts.body_digest is None:
            try:
                return self._verify(request, now_s)
            except Untrusted:
                raise Untrusted("unauthorized stream") from None
        return self._verify(request, now_s)

    def _verify(self, request: SignedRequest, now_s: float) -> Credential:
        try:
            claim = signature.parse_authorization(request.authorization)
        except signature.Malformed as refusal:
            raise Untrusted(str(refusal)) from None
        credential = self._by_id.get(claim.api_id)
        if credential is None:
            raise Untrusted(f"invalid API ID: {claim.api_id}")
        date = request.parts.headers.get(signature.DATE, "").strip()
        if not is_fresh(date, now_s):
            raise Untrusted(f"expired request with date {date}")
        scope = request.parts.headers.get(signature.SCOPE, "").strip()
        if not scope or scope != claim.scope:
            raise Untrusted(f"request scope mismatch: {scope} => {claim.scope}")
        right = signature.signature(
            request.parts,
            signed_headers=claim.signed_headers,
            secret=credential.key,
            date=date,
            scope=scope,
        )
        if not hmac.compare_digest(right.encode(), claim.signature.encode()):
            raise Untrusted("signature corrupted")
        return credential


def is_fresh(date: str, now_s: float) -> bool:
    """Whether an RFC 3339 time lies within the window around `now_s`; a text that is none is not fresh."""
    if _RFC3339.fullmatch(date) is None:
        return False
    try:
        at = datetime.fromisoformat(date.upper())
    except ValueError:
        return False
    return abs((at - _EPOCH).total_seconds() - now_s) <= WINDOW_S


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_credential() -> Credential:
    """One with a random id and key: no installation shares its key with another."""
    return Credential(f"nano-{secrets.token_hex(_ID_BYTES)}", secrets.token_urlsafe(_KEY_BYTES))
