"""Uploads: the bytes of the part `image` out of a `multipart/form-data` body (RFC 7578), as they come.

The parser is pushed one piece at a time and its bytes are handed on before the next piece is asked for:
whoever is slow to take them slows the sender, and memory holds one piece. A body that ends before its closing
boundary is an error, never a shorter image.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Iterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from nano.model.errors import Corrupt, Invalid

PART = "image"
PIECE_BYTES = 1 << 16
"""How much is pushed into the parser at a time."""


class ImagePart:
    """Takes the pieces of a body, gives the bytes of its first part named `image`."""

    def __init__(self, content_type: str) -> None:
        kind, options = _options(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise Invalid(
                "content-type",
                f"content-type {content_type!r:.80} is not multipart/form-data with a boundary",
            )
        self.found = False
        """The part was seen; its bytes may still be under way."""
        self.complete = False
        """The closing boundary was seen."""
        self._taking = False
        self._name = b""
        self._value = b""
        self._disposition = b""
        self._bytes: list[bytes] = []
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._part_bytes,
                    "on_part_end": self._part_ends,
                    "on_end": self._ends,
                },
            )
        except FormParserError as error:
            raise Invalid("content-type", f"content-type: {error}") from None

    def push(self, piece: bytes) -> Iterator[bytes]:
        """The image's bytes in this piece of the body; Corrupt when the body is not what it claims to be."""
        for start in range(0, len(piece), PIECE_BYTES):
            try:
                self._parser.write(piece[start : start + PIECE_BYTES])
            except FormParserError as error:
                raise Corrupt(f"the upload is not multipart/form-data: {error}") from None
            taken, self._bytes = self._bytes, []
            yield from taken

    def close(self) -> None:
        """To be called when the body has ended: tells a whole upload from one that broke off."""
        if not self.complete:
            raise Corrupt("the upload broke off before its closing boundary: send it again")
        if not self.found:
            raise Invalid(PART, f"the upload has no part named {PART!r}")

    def _part_begins(self) -> None:
        self._disposition = b""
        self._name = b""
        self._value = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = b""
        self._value = b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition.decode("latin-1"))
        if not self.found and options.get(b"name") == PART.encode():
            self.found = self._taking = True

    def _part_bytes(self, data: bytes, start: int, end: int) -> None:
        if self._taking:
            self._bytes.append(data[start:end])

    def _part_ends(self) -> None:
        self._taking = False

    def _ends(self) -> None:
        self.complete = True


def _options(content_type: str) -> tuple[bytes, dict[bytes, bytes]]:
    try:
        return parse_options_header(content_type)
    except UnicodeEncodeError:  # no header can hold such a character: RFC 9110, section 5.5
        return b"", {}


async def image_bytes(content_type: str, body: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """The uploaded image's bytes, piece by piece; raises before its end when the upload is not whole."""
    part = ImagePart(content_type)
    async for piece in body:
        for taken in part.push(piece):
            yield taken
    part.close()
