"""JSON for everything that Nano stores: msgspec, taught the address types that it does not know.

Sets and mappings are written in sorted order, so that the same value is always the same bytes and two
versions of a file differ only where their contents do.
"""

from functools import cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_AS_TEXT = (IPv4Address, IPv4Interface, IPv4Network)


def enc_hook(value: object) -> str:
    """The text of an address, an address with its prefix, or a network; anything else is a `TypeError`."""
    if isinstance(value, _AS_TEXT):
        return str(value)
    raise TypeError(f"no JSON for {type(value).__name__}: {value!r}")


def dec_hook(kind: type[T], value: object) -> T:
    """The address that a text stands for; what does not fit is a `ValueError`, which msgspec gives its place.

    Only text is taken: `IPv4Address(1)` would make 0.0.0.1 of a number that was never meant as an address.
    """
    if kind not in _AS_TEXT:
        raise TypeError(f"no {kind.__name__} can be read from JSON")
    if not isinstance(value, str):
        raise ValueError(f"Expected `str`, got `{type(value).__name__}`")  # noqa: TRY004 - msgspec wraps it
    return kind(value)  # type: ignore[call-arg]  # all three take one text


_encoder = msgspec.json.Encoder(enc_hook=enc_hook, order="deterministic")


def encode(value: object) -> bytes:
    """`value` as compact JSON."""
    return _encoder.encode(value)


def decode(data: bytes, kind: type[T]) -> T:
    """The `kind` that `data` describes; `msgspec.DecodeError` names what is wrong and where."""
    found: T = _decoder(kind).decode(data)  # type: ignore[arg-type]  # a type is hashable
    return found


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """Decoders are dear to make and few; `kind` may be any type that msgspec knows, unions among them."""
    return msgspec.json.Decoder(kind, dec_hook=dec_hook)
