"""Which route a path means, and what is said of one that means none (REST document, sections 2 and 12.3).

The slash at the end and the case of letters are part of a route; the other spelling is answered with a
redirect, 301 for GET and 307 otherwise. A known path with another method is 405 with `Allow`, OPTIONS on it
is 200 with `Allow`, all else is 404. HEAD is a method like any other: on a GET route it is 405.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from nano import signature

R = TypeVar("R")

CATCH_ALL = "*"


@dataclass(frozen=True, slots=True)
class Found(Generic[R]):
    route: R
    params: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Redirect:
    """The path has another spelling that is a route."""

    status: int
    location: str
    """Percent-encoded, with the query that was asked."""


@dataclass(frozen=True, slots=True)
class Options:
    allow: str


@dataclass(frozen=True, slots=True)
class NotAllowed:
    allow: str
    """Sorted, OPTIONS included, as the header wants it."""


@dataclass(frozen=True, slots=True)
class Missing:
    pass


Judgement: TypeAlias = Found[R] | Redirect | Options | NotAllowed | Missing


@dataclass(frozen=True, slots=True)
class _Pattern(Generic[R]):
    parts: tuple[str, ...]
    """Of the path behind its first slash; `{name}` takes any part that is not empty."""
    route: R

    def match(self, parts: list[str], *, fold: bool = False) -> list[str] | None:
        """The parts as this route spells them, or None when they are not of it."""
        wanted = self.parts
        if wanted[-1] == CATCH_ALL and len(parts) >= len(wanted):
            rest = parts[len(wanted) - 1 :]
            wanted, parts = wanted[:-1], parts[: len(wanted) - 1]
        else:
            rest = []
        if len(wanted) != len(parts):
            return None
        spelt = []
        for want, part in zip(wanted, parts, strict=True):
            if want.startswith("{") and part:
                spelt.append(part)
            elif want == part or (fold and want.lower() == part.lower()):
                spelt.append(want)
            else:
                return None
        return spelt + rest

    def params(self, parts: list[str]) -> dict[str, str]:
        return {
            want[1:-1]: part for want, part in zip(self.parts, parts, strict=False) if want.startswith("{")
        }


class Routes(Generic[R]):
    """The table of all routes; a path with fixed words wins over one with names in their place."""

    def __init__(self, routes: Iterable[tuple[str, str, R]]) -> None:
        self._by_method: dict[str, list[_Pattern[R]]] = {}
        for method, template, route in routes:
            pattern = _Pattern(tuple(template.split("/")[1:]), route)
            self._by_method.setdefault(method, []).append(pattern)
        for patterns in self._by_method.values():
            patterns.sort(key=lambda pattern: sum(part.startswith("{") for part in pattern.parts))

    def judge(self, method: str, path: str, query: str = "") -> Judgement[R]:
        """What to do with a request; `path` is percent-decoded, `query` as on the wire."""
        parts = path.split("/")[1:]
        for pattern in self._by_method.get(method, ()):
            if pattern.match(parts) is not None:
                return Found(pattern.route, pattern.params(parts))
        better = self._other_spelling(method, path)
        if better is not None:
            location = "/".join(map(_encoded, better.split("/"))) + (f"?{query}" if query else "")
            return Redirect(301 if method == "GET" else 307, location)
        allowed = {one for one in self._by_method if one != method and self._has(one, parts)}
        if not allowed:
            return Missing()
        allow = ", ".join(sorted(allowed | {"OPTIONS"}))
        return Options(allow) if method == "OPTIONS" else NotAllowed(allow)

    def _has(self, method: str, parts: list[str]) -> bool:
        return any(pattern.match(parts) is not None for pattern in self._by_method[method])

    def _other_spelling(self, method: str, path: str) -> str | None:
        """The route that this path was probably meant for."""
        for spelling in _spellings(path):
            parts = spelling.split("/")[1:]
            for pattern in self._by_method.get(method, ()):
                spelt = pattern.match(parts, fold=True)
                if spelt is not None:
                    return "/" + "/".join(spelt)
        return None


def _spellings(path: str) -> Iterator[str]:
    """The path, cleaned, with and without a slash at its end."""
    clean = _cleaned(path)
    yield clean
    yield clean[:-1] if clean.endswith("/") else clean + "/"


def _cleaned(path: str) -> str:
    """Without empty and dot segments; the slash at the end stays."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in {"", "."}:
            kept.append(part)
    end = "/" if kept and path.rsplit("/", 1)[-1] in {"", ".", ".."} else ""
    return "/" + "/".join(kept) + end


def _encoded(part: str) -> str:
    return signature.escape(part.encode()).replace("+", "%20")
