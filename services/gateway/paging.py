"""A page of a list: which part was asked for, and how it is described."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from nano.web.query import Query

T = TypeVar("T")

DEFAULT_LIMIT = 50
LIMIT = 1000

PARAMETERS: Mapping[str, str] = MappingProxyType(
    {
        "offset": "how many to skip",
        "limit": f"how many to answer: {DEFAULT_LIMIT} unless told, {LIMIT} at most",
    }
)


def page(query: Query, found: Sequence[T]) -> list[T]:
    """The part that `offset` and `limit` ask for; Invalid when one of them is no number."""
    offset = query.number("offset", 0)
    limit = min(query.number("limit", DEFAULT_LIMIT), LIMIT)
    return list(found[offset : offset + limit])
