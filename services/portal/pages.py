"""The built pages: read once, served with the headers that keep them to themselves."""

import mimetypes
from dataclasses import dataclass
from pathlib import Path

from starlette.responses import Response

from nano.model.errors import Invalid

BUILT = Path(__file__).parent / "web" / "dist"
INDEX = "index.html"

_SOURCES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'self'",
    "frame-ancestors": "'none'",
}
POLICY = "; ".join(f"{kind} {sources}" for kind, sources in _SOURCES.items())
"""Content-Security-Policy: nothing from anywhere else, no script and no style but in files of ours. An image
of noVNC's screen may be a blob or a data URL."""

SAFE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
"""On every answer, pages and API alike."""

_ENCODINGS = (("br", ".br"), ("gzip", ".gz"))
"""What the build has compressed already, the best first."""
_FOR_EVER = "public, max-age=31536000, immutable"
_FRESH = "no-cache"


@dataclass(frozen=True, slots=True)
class Page:
    media_type: str
    bodies: dict[str, bytes]
    """By content encoding; the empty one is as it is."""
    is_hashed: bool
    """Its name changes with its contents."""


class Pages:
    """Every file of the build, in memory: a few hundred KiB."""

    def __init__(self, folder: Path) -> None:
        if not (folder / INDEX).is_file():
            raise Invalid(
                "pages", f"there are no built pages in {folder}: `./dev pages` builds them, then start again"
            )
        self._pages = {
            path.relative_to(folder).as_posix(): _read(path, folder)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix not in {".br", ".gz"}
        }

    def answer(self, path: str, accept_encoding: str) -> Response | None:
        """The file of a path; the index for one without a folder, as the documented server has it."""
        name = path.removeprefix("/")
        page = self._pages.get(name) or (self._pages[INDEX] if "/" not in name and "." not in name else None)
        if page is None:
            return None
        wanted = {each.partition(";")[0].strip() for each in accept_encoding.split(",")}
        encoding = next((one for one, _ in _ENCODINGS if one in wanted and one in page.bodies), "")
        headers = {"Cache-Control": _FOR_EVER if page.is_hashed else _FRESH, "Vary": "Accept-Encoding"}
        if encoding:
            headers["Content-Encoding"] = encoding
        if page.media_type.startswith("text/html"):
            headers["Content-Security-Policy"] = POLICY
        return Response(page.bodies[encoding], 200, headers, page.media_type)


def _read(path: Path, folder: Path) -> Page:
    bodies = {"": path.read_bytes()}
    for encoding, suffix in _ENCODINGS:
        packed = path.with_name(path.name + suffix)
        if packed.is_file():
            bodies[encoding] = packed.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    return Page(kind, bodies, path.relative_to(folder).parts[0] == "assets")
