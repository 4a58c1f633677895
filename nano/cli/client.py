"""The REST surface as a client sees it: signed calls, files with progress, events."""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self, cast
from urllib.parse import urlencode

import httpx
import msgspec

from nano import signature
from nano.cli.settings import Settings
from nano.model.errors import NanoError, Unreachable
from nano.web.events import Event, Parser
from nano.web.trust import trusted

PREFIX = "/api/v1"
TIMEOUT_S = 75.0
"""Longer than any wait of the gateway, so that it is the one who says what happened."""
PIECE_BYTES = 1 << 20
PAGE = 1000
"""As many as the gateway gives at once."""

Progress = Callable[[int, int], None]
"""Called with bytes moved and bytes in all."""


class Refused(NanoError):
    """The gateway's own words for a failure; `error_code` is the HTTP number that fits."""

    code = "refused"

    def __init__(self, message: str, error_code: int) -> None:
        super().__init__(message)
        self.error_code = error_code


class Answer(NamedTuple):
    data: Any
    status: int
    task: str
    """The id of the task that the call started, or empty."""


class Client:
    """One gateway and one credential. Use it as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._http = httpx.Client(
            base_url=settings.url, verify=trusted(settings.certificate), timeout=TIMEOUT_S, trust_env=False
        )
        self._host = httpx.URL(settings.url).netloc.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    # -------------------------------------------------------------- calls

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: object = None,
        idempotency_key: str = "",
    ) -> Answer:
        """One documented call; `path` is without the prefix. Refused carries the gateway's error."""
        content = b"" if body is None else msgspec.json.encode(body)
        url, headers = self._signed(method, path, query, content)
        if content:
            headers["Content-Type"] = "application/json"
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        with self._reachable():
            response = self._http.request(method, url, headers=headers, content=content)
        return Answer(opened(response), response.status_code, response.headers.get("nano-task", ""))

    def everything(self, path: str, member: str, **query: str | int) -> list[dict[str, Any]]:
        """A list of the gateway that comes in pages, as a whole."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.call("GET", path, query={"limit": PAGE, "offset": len(found), **query}).data
            found += page[member]
            if len(found) >= page["total"] or not page[member]:
                return found

    def upload(self, path: str, file: Path, progress: Progress) -> Any:
        """Sends a file as the documented multipart part `image`, in pieces."""
        url, headers = self._signed("POST", path)
        with file.open("rb") as source, self._reachable():
            metered = cast("BinaryIO", _Metered(source, file.stat().st_size, progress))
            part = (file.name, metered, "application/octet-stream")
            response = self._http.post(url, headers=headers, files={"image": part}, timeout=None)
        return opened(response)

    def download(self, path: str, file: Path, progress: Progress) -> str:
        """Fetches a file, from where an earlier try ended; gives the documented `Signature` (SHA-1 hex)."""
        part = file.with_name(f".{file.name}.part")
        url, headers = self._signed("GET", path)
        have = part.stat().st_size if part.exists() else 0
        if have:
            headers["Range"] = f"bytes={have}-"
        with self._reachable(), self._http.stream("GET", url, headers=headers) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink()  # as long as the file, or longer: of another one, and no beginning of this
                return self.download(path, file, progress)
            if response.headers.get("content-type", "").startswith("text/plain"):
                response.read()
                opened(response)
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                have = 0
            total = have + int(response.headers["content-length"])
            with part.open("r+b" if have else "wb") as sink:
                sink.seek(have)
                for piece in response.iter_bytes(PIECE_BYTES):
                    sink.write(piece)
                    progress(sink.tell(), total)
        digest = response.headers.get("signature", "")
        _verify_sha1(part, digest)
        part.replace(file)
        return str(digest)

    def events(self, cursor: str = "") -> Iterator[Event]:
        """Every change from now on, or from `cursor` on; a `reread` says that some were left out."""
        url, headers = self._signed("GET", "/events/")
        if cursor:
            headers["Last-Event-ID"] = cursor
        with self._reachable(), self._http.stream("GET", url, headers=headers, timeout=30.0) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                response.read()
                opened(response)
            parser = Parser()
            for piece in response.iter_bytes():
                yield from parser.piece(piece)

    # -------------------------------------------------------------- inside

    def _signed(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int] | None = None,
        content: bytes = b"",
    ) -> tuple[str, dict[str, str]]:
        """The target below the gateway's address, and the headers that sign it."""
        return signature.signed_call(
            method,
            f"{PREFIX}{path}",
            host=self._host,
            api_id=self.settings.id,
            secret=self.settings.key,
            at=datetime.now(UTC),
            query=urlencode({} if query is None else dict(query)),
            body=content,
        )

    def _reachable(self) -> "_Reachable":
        return _Reachable(self.settings.url)


class _Reachable:
    """Turns httpx's failures into our words."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, httpx.TransportError):
            raise Unreachable(
                f"no answer from the gateway at {self._url} ({error}): is it running? try ./dev up",
                subject=self._url,
            ) from error


def opened(response: httpx.Response) -> Any:
    """The data of a documented envelope, or Refused with its words."""
    try:
        envelope = msgspec.json.decode(response.content)
        number, message, data = envelope["error_code"], envelope["message"], envelope["data"]
    except (msgspec.DecodeError, KeyError, TypeError):
        text = response.text.strip()[:200] or response.reason_phrase
        raise Refused(f"{response.status_code}: {text}", response.status_code) from None
    if number:
        raise Refused(message, number)
    return data


class _Metered(io.BufferedIOBase):
    """A file that tells how much of it was read."""

    def __init__(self, source: BinaryIO, total: int, progress: Progress) -> None:
        super().__init__()
        self._source = source
        self._total = total
        self._progress = progress

    def read(self, size: int | None = -1) -> bytes:
        size = -1 if size is None else size
        piece = self._source.read(size)
        self._progress(self._source.tell(), self._total)
        return piece

    def fileno(self) -> int:
        return self._source.fileno()


def _verify_sha1(file: Path, expected: str) -> None:
    with file.open("rb") as source:
        found = hashlib.file_digest(source, "sha1").hexdigest()
    if expected and found != expected:
        file.unlink()
        raise Refused(f"{file.name}: the bytes that came do not match their signature; fetch it again", 502)
