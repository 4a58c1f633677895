"""JSON bodies as documented: read whatever their Content-Type, names matched without regard to case.

A member that nobody knows is ignored, one that is `null` is as if it were missing, a wrong type or a negative
number where none can be meant is refused with the member's name (REST document, sections 2 and 12).
"""

import re
import types
import typing
from typing import Annotated, Any, TypeVar, Union

import msgspec

from nano.model.errors import Invalid

LIMIT_BYTES = 1 << 20
"""The longest JSON body that is read; the documented ones have some hundred bytes."""

Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""A number that counts or measures. Documented as unsigned 64 bits; half of that is more than any disk."""

S = TypeVar("S", bound=msgspec.Struct)

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")


def decode(body: bytes, kind: type[S]) -> S:
    """The request that a body asks for; Invalid names the member that is wrong."""
    if not body.strip():
        raise Invalid("body", "body is empty: send a JSON object, {} at least")
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("body", f"body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Invalid("body", "body is not a JSON object")
    try:
        return msgspec.convert(_folded(document, kind), kind)
    except msgspec.ValidationError as error:
        raise _named(error) from None


def _named(error: msgspec.ValidationError) -> Invalid:
    """msgspec's words and the place that they speak of, as our error."""
    found = _PLACE.match(str(error))
    what, where = (found["what"], found["where"] or "") if found else (str(error), "")
    missing = _MISSING.match(what)
    if missing:
        member = ".".join(part for part in (where, missing["name"]) if part)
        return Invalid(member, f"{member} is missing")
    member = where or "body"
    return Invalid(member, f"{member}: {what[:1].lower()}{what[1:].replace('`', '')}")


def _folded(value: Any, hint: Any) -> Any:
    """The same document under the names that `hint` spells, at each level where it names a record.

    An exact name wins over one that differs in case only, as with the documented server; of several that
    differ, the last one counts.
    """
    hint = _bare(hint)
    if isinstance(value, list):
        items = typing.get_args(hint)
        return [_folded(item, items[0]) for item in value] if items else value
    if not isinstance(value, dict) or not (isinstance(hint, type) and issubclass(hint, msgspec.Struct)):
        return value
    members = {field.encode_name: field.type for field in msgspec.structs.fields(hint)}
    spelt = {name.casefold(): name for name in members}
    folded: dict[str, Any] = {}
    for given, item in sorted(value.items(), key=lambda pair: pair[0] in members):
        name = spelt.get(given.casefold())
        if name is not None and item is not None:
            folded[name] = _folded(item, members[name])
    return folded


def _bare(hint: Any) -> Any:
    """The type inside `T | None` and `Annotated[T, ...]`."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return _bare(typing.get_args(hint)[0])
    if origin in {Union, types.UnionType}:
        return _bare(next(one for one in typing.get_args(hint) if one is not types.NoneType))
    return hint
