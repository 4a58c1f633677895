"""Names that a person types: the thing that is meant, or what comes near to it."""

import difflib
from collections.abc import Sequence
from typing import Any

from nano.model.errors import Invalid, NotFound

NEAR = 5
"""How many candidates an error names."""


def near(name: str, known: Sequence[str]) -> list[str]:
    """Those that have `name` in them, else those that look like it."""
    having = [one for one in known if name and name.lower() in one.lower()]
    return (having or difflib.get_close_matches(name, known))[:NEAR]


def known_as(what: str, name: str, known: Sequence[str], see: str) -> str:
    """`name` itself if it is one of `known`; NotFound names candidates, and the command that lists all.

    A part of a name is never taken for the whole: what is done may be dear.
    """
    if name in known:
        return name
    found = near(name, known)
    if not found:
        raise NotFound(f"there is no {what} {name!r:.80}: see {see}")
    word = "one of " if len(found) > 1 else ""
    raise NotFound(f"there is no {what} {name!r:.80}: do you mean {word}{', '.join(found)}? See {see}")


def instance_named(name: str, known: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The guest with this id, full name or short name; NotFound or Invalid names candidates."""
    fits = [one for one in known if name in {one["id"], one["name"], _short(one)}]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise Invalid("instance", f"{name!r:.80} is {len(fits)} instances: give the id of {_listed(fits)}")
    close = near(name, [str(one["name"]) for one in known]) or near(name, [_short(one) for one in known])
    fits = [one for one in known if one["name"] in close or _short(one) in close]
    if not fits:
        raise NotFound(f"there is no instance {name!r:.80}: see nanoctl instance list")
    raise NotFound(
        f"there is no instance {name!r:.80}: do you mean {_listed(fits)}? See nanoctl instance list"
    )


def _short(guest: dict[str, Any]) -> str:
    return str(guest["name"]).partition(".")[2]


def _listed(guests: Sequence[dict[str, Any]]) -> str:
    listed = [f"{one['name']} ({one['id']}, pool {one.get('pool', '-')})" for one in guests[:NEAR]]
    more = f" or {len(guests) - NEAR} more" if len(guests) > NEAR else ""
    return " or ".join(listed) + more
