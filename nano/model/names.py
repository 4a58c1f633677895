"""Which names are allowed, and the error that says so (REST document, section 3)."""

import re

from nano.model.errors import Invalid

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DOTTED = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_FREE = re.compile(r"[^\x00-\x1f\x7f]{1,128}")


def plain(field: str, name: str) -> str:
    """A name of `A-Z a-z 0-9 _ -`: guests, owners, groups, compute pools."""
    return _checked(_PLAIN, field, name, "1 to 64 of A-Z a-z 0-9 _ -")


def dotted(field: str, name: str) -> str:
    """A plain name that may also hold dots: disk images, snapshots."""
    return _checked(_DOTTED, field, name, "1 to 128 of A-Z a-z 0-9 _ - .")


def free(field: str, name: str) -> str:
    """Any text of one line: media images, address pools, templates."""
    return _checked(_FREE, field, name, "1 to 128 printable characters")


def _checked(allowed: re.Pattern[str], field: str, name: str, rule: str) -> str:
    if allowed.fullmatch(name) is None:
        raise Invalid(field, f"{field} {name!r} is not allowed: give {rule}")
    return name
