"""The text by which one peer may join the zone once: what an administrator carries from one host to another.

`nano-` and base64url (RFC 4648, 5, no padding) of a MessagePack array and, behind it, its CRC-32 (big
endian), so that a slip in copying is told from a token of another zone. The array, in order: version (1),
zone id, fingerprints of the authorities that may sign (32 bytes each), secret (16 bytes), role, the one id
that may join (empty: any), the end in milliseconds since 1970 UTC, addresses of schedulers as `host:port`.

Whoever holds the secret may join, so the applicant says it to nobody but a scheduler whose authority is
named in the token; the scheduler's book keeps its SHA-256 only.
"""

import base64
import binascii
import hashlib
import zlib
from typing import Annotated, Literal

import msgspec

from nano.model.errors import Invalid
from nano.model.peers import Role

PREFIX = "nano-"
SECRET_BYTES = 16
TEXT_LIMIT = 2048
"""Far above any honest token: eight authorities and a dozen addresses stay below half of it."""

_CRC_BYTES = 4
_NAME_DIGITS = 12

_Name = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]
_NameOrNone = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{0,64}\Z")]
_Fingerprint = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Secret = Annotated[bytes, msgspec.Meta(min_length=SECRET_BYTES, max_length=SECRET_BYTES)]
_Where = Annotated[str, msgspec.Meta(min_length=3, max_length=280)]


class TokenText(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the text says. `zone` is the zone's id."""

    version: Literal[1]
    zone: _Name
    authorities: Annotated[tuple[_Fingerprint, ...], msgspec.Meta(min_length=1, max_length=8)]
    secret: _Secret
    role: Role
    id: _NameOrNone
    expires_ms: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    schedulers: Annotated[tuple[_Where, ...], msgspec.Meta(max_length=16)]

    @property
    def name(self) -> str:
        """What both ends call it."""
        return token_id(self.secret)

    def trusts(self, authority: str) -> bool:
        """Whether the authority of that fingerprint (hex) is one of those named."""
        return authority in {each.hex() for each in self.authorities}

    def __str__(self) -> str:
        """For errors and logs: everything but the secret."""
        return f"join token {self.name} for {self.role}/{self.id or '*'}"

    def __repr__(self) -> str:
        """For tracebacks, some of which show the values of variables."""
        return f"<{self}>"


def token_id(secret: bytes) -> str:
    """What both ends call a token by without saying it: the beginning of `secret_digest`."""
    return secret_digest(secret)[:_NAME_DIGITS]


def secret_digest(secret: bytes) -> str:
    """What the scheduler's book keeps of the secret: its SHA-256, in hex."""
    return hashlib.sha256(secret).hexdigest()


def encode(token: TokenText) -> str:
    """The text of `token`."""
    packed = msgspec.msgpack.encode(token)
    packed += zlib.crc32(packed).to_bytes(_CRC_BYTES, "big")
    return PREFIX + base64.urlsafe_b64encode(packed).rstrip(b"=").decode("ascii")


def decode(text: str, *, field: str = "token") -> TokenText:
    """What a text says, blanks around it ignored; `Invalid` for `field` says what is wrong with it."""
    text = text.strip()
    if not text.startswith(PREFIX) or len(text) > TEXT_LIMIT:
        raise Invalid(field, f"{field} is no join token: it begins with {PREFIX!r} and is one line")
    packed = _bytes_of(text.removeprefix(PREFIX), field)
    body, check = packed[:-_CRC_BYTES], packed[-_CRC_BYTES:]
    if zlib.crc32(body).to_bytes(_CRC_BYTES, "big") != check:
        raise Invalid(field, f"{field} is not whole: copy the join token again, all of it")
    try:
        token = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # msgspec lets the latter through
        raise Invalid(
            field, f"{field} is a join token that this version cannot read: {error}; make a new one"
        ) from error
    if token.role not in JOINABLE:
        raise Invalid(field, f"{token}: nobody joins as {token.role} by a token; make one for another role")
    return token


JOINABLE = frozenset({Role.CELL, Role.IMAGESTORE, Role.ADDRESSPOOL, Role.GATEWAY})
"""The roles of services that may stand on another host than the scheduler."""

_DECODER = msgspec.msgpack.Decoder(TokenText)
_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def _bytes_of(text: str, field: str) -> bytes:
    if not _ALPHABET.issuperset(text):
        raise Invalid(field, f"{field} holds characters that no join token has: copy it again")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise Invalid(field, f"{field} is not whole: copy the join token again, all of it") from error
