"""The display of a pretended machine: a small RFB 3.8 server (RFC 6143), as bytes in and bytes out.

It shows that nothing runs here, whose screen it is, and what is typed. Security is None, as it is on the
descriptor that libvirt gives; the only encoding is Raw, which every client speaks. No socket, no clock:
`sim_screens.py` carries the bytes.
"""

import struct
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from services.cell import sim_font

WIDTH, HEIGHT = 640, 400
_SCALE = 2
"""Dots of the screen for a dot of the font."""
CELL_WIDTH = (sim_font.COLUMNS + 1) * _SCALE
CELL_HEIGHT = (sim_font.ROWS + 3) * _SCALE
_MARGIN = 20
COLUMNS = (WIDTH - 2 * _MARGIN) // CELL_WIDTH
"""Letters in a line."""
TYPED_LINE = 9
"""Where the echo stands, counted from 0."""

_PAPER, _INK, _ACCENT = (16, 24, 48), (208, 216, 232), (255, 184, 64)
"""Red, green, blue."""

VERSION = b"RFB 003.008\n"
_RETURN, _BACKSPACE = 0xFF0D, 0xFF08
"""Keysyms (X11, keysymdef.h); those of ASCII are its numbers."""


class Broken(Exception):
    """The client said something that this server cannot follow; the connection is over."""


@dataclass
class Screen:
    """What one machine shows, to all who look; it lives as long as the machine is on."""

    name: str
    instance: str
    typed: str = ""
    watchers: list[Callable[[], None]] = field(default_factory=list)
    """Called after each change."""

    @property
    def lines(self) -> list[tuple[str, tuple[int, int, int]]]:
        """Text and colour of each line, from the top."""
        return [
            ("NANO", _ACCENT),
            ("", _INK),
            ("THIS MACHINE IS SIMULATED: NOTHING RUNS HERE", _ACCENT),
            ("", _INK),
            (f"NAME  {self.name}", _INK),
            (f"ID    {self.instance}", _INK),
            ("", _INK),
            ("KEYS ARE SHOWN, AND DO NOTHING ELSE", _INK),
            ("", _INK),
            (f"> {self.typed}_", _INK),
        ]

    def key(self, keysym: int) -> None:
        """A key goes down: letters are added, Backspace takes one away, Return begins anew."""
        before = self.typed
        if 0x20 <= keysym < 0x7F:  # noqa: PLR2004 - what is printable in ASCII
            self.typed = (self.typed + chr(keysym))[-(COLUMNS - 3) :]
        elif keysym == _BACKSPACE:
            self.typed = self.typed[:-1]
        elif keysym == _RETURN:
            self.typed = ""
        if self.typed != before:
            self._changed()

    def clear(self) -> None:
        """The machine begins anew."""
        self.typed = ""
        self._changed()

    def _changed(self) -> None:
        for watcher in tuple(self.watchers):
            watcher()


@dataclass(frozen=True)
class PixelFormat:
    """How a client wants its pixels: RFC 6143, section 7.4, true colour only."""

    bits: int = 32
    is_big_endian: bool = False
    maxima: tuple[int, int, int] = (255, 255, 255)
    shifts: tuple[int, int, int] = (16, 8, 0)

    _LAYOUT = struct.Struct(">BB??HHHBBB3x")
    _DEPTH = 24

    @classmethod
    def parsed(cls, data: bytes) -> "PixelFormat":
        bits, _, is_big_endian, is_true, *rest = cls._LAYOUT.unpack(data)
        maxima, shifts = tuple(rest[:3]), tuple(rest[3:])
        if bits not in {8, 16, 32} or not is_true:
            raise Broken(f"pixels of {bits} bits, true colour {is_true}: only 8, 16 and 32 in true colour")
        if any(peak << shift >> bits for peak, shift in zip(maxima, shifts, strict=True)):
            raise Broken("a colour that does not fit into its pixel")
        return cls(bits, is_big_endian, maxima, shifts)

    def written(self) -> bytes:
        return self._LAYOUT.pack(self.bits, self._DEPTH, self.is_big_endian, True, *self.maxima, *self.shifts)

    def pixel(self, colour: tuple[int, int, int]) -> bytes:
        value = sum(
            part * peak // 255 << shift
            for part, peak, shift in zip(colour, self.maxima, self.shifts, strict=True)
        )
        return value.to_bytes(self.bits // 8, "big" if self.is_big_endian else "little")


@dataclass(frozen=True)
class Area:
    """A rectangle of the screen, in dots."""

    x: int
    y: int
    width: int
    height: int

    def cut(self, other: "Area") -> "Area":
        """What both cover; of no width or height when that is nothing."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        right = min(self.x + self.width, other.x + other.width)
        bottom = min(self.y + self.height, other.y + other.height)
        return Area(x, y, max(0, right - x), max(0, bottom - y))

    def joined(self, other: "Area") -> "Area":
        """The smallest that covers both."""
        if self.is_empty or other.is_empty:
            return other if self.is_empty else self
        x, y = min(self.x, other.x), min(self.y, other.y)
        right = max(self.x + self.width, other.x + other.width)
        bottom = max(self.y + self.height, other.y + other.height)
        return Area(x, y, right - x, bottom - y)

    @property
    def is_empty(self) -> bool:
        return not (self.width and self.height)


WHOLE = Area(0, 0, WIDTH, HEIGHT)
_ECHO = Area(0, _MARGIN + TYPED_LINE * CELL_HEIGHT, WIDTH, CELL_HEIGHT)
"""The only part that ever changes."""


def drawn(screen: Screen, area: Area, pixels: PixelFormat) -> bytes:
    """The dots of an area, row by row, as the client wants them."""
    lines = screen.lines
    return b"".join(
        _row(lines, y, pixels)[area.x * pixels.bits // 8 : (area.x + area.width) * pixels.bits // 8]
        for y in range(area.y, area.y + area.height)
    )


def _row(lines: list[tuple[str, tuple[int, int, int]]], y: int, pixels: PixelFormat) -> bytes:
    paper = pixels.pixel(_PAPER)
    number, below = divmod(y - _MARGIN, CELL_HEIGHT)
    dots = below // _SCALE
    if not 0 <= number < len(lines) or dots >= sim_font.ROWS or not lines[number][0]:
        return paper * WIDTH
    text, colour = lines[number]
    dot = {"#": pixels.pixel(colour) * _SCALE, ".": paper * _SCALE}
    inked = b"".join(dot[mark] for letter in text[:COLUMNS] for mark in sim_font.glyph(letter)[dots] + ".")
    row = paper * _MARGIN + inked
    return row + paper * (WIDTH - len(row) // len(paper))


Talk = Generator[int, bytes, None]
"""Asks for so many bytes, and is sent them."""


class RfbServer:
    """One client at one screen. Give it what came; `take` what is to be sent."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._pixels = PixelFormat()
        self._changed: Area | None = WHOLE
        """Since the client was last told."""
        self._wanted: Area | None = None
        """Asked for, to be sent when it has changed."""
        self._out = bytearray(VERSION)
        self._in = bytearray()
        self._talk = self._conversation()
        self._missing = next(self._talk)
        screen.watchers.append(self.look)

    def close(self) -> None:
        """Nobody looks through this one any more."""
        self._screen.watchers.remove(self.look)

    def receive(self, data: bytes) -> None:
        """Bytes of the client, in whatever parts; Broken when they mean nothing."""
        self._in += data
        while len(self._in) >= self._missing:
            part = bytes(self._in[: self._missing])
            del self._in[: self._missing]
            self._missing = self._talk.send(part)

    def take(self) -> bytes:
        """What is to be sent now: at most one picture, however often it was asked for."""
        self._answer()
        taken = bytes(self._out)
        self._out.clear()
        return taken

    def look(self) -> None:
        """The screen has changed: who waits for that is answered with the next `take`."""
        self._changed = self._changed or _ECHO

    # ------------------------------------------------------------------ the conversation

    def _conversation(self) -> Talk:
        """RFC 6143, section 7, in its order."""
        if (version := (yield len(VERSION))) != VERSION:
            raise Broken(f"the client speaks {version!r}, not RFB 3.8")
        self._out += b"\x01\x01"  # one kind of security: none
        if (yield 1) != b"\x01":
            raise Broken("the client chose a security that was not offered")
        self._out += bytes(4)  # all is well
        yield 1  # whether others may look too: they may
        name = f"{self._screen.name} (simulated)".encode()
        self._out += struct.pack(">HH", WIDTH, HEIGHT) + self._pixels.written()
        self._out += struct.pack(">I", len(name)) + name
        while True:
            (kind,) = yield 1
            if kind not in _MESSAGES:
                raise Broken(f"message {kind} was never offered")
            yield from _MESSAGES[kind](self)

    def _set_pixels(self) -> Talk:
        self._pixels = PixelFormat.parsed((yield 3 + 16)[3:])

    def _set_encodings(self) -> Talk:
        (count,) = struct.unpack(">xH", (yield 3))
        yield from _skipped(4 * count)  # Raw need not be asked for

    def _update(self) -> Talk:
        is_incremental, *place = struct.unpack(">?HHHH", (yield 9))
        area = Area(*place).cut(WHOLE)
        self._wanted = area if self._wanted is None else self._wanted.joined(area)
        if not is_incremental:
            self._changed = WHOLE

    def _key(self) -> Talk:
        is_down, keysym = struct.unpack(">?2xI", (yield 7))
        if is_down:
            self._screen.key(keysym)

    def _pointer(self) -> Talk:
        yield 5  # there is nothing to point at

    def _cut_text(self) -> Talk:
        (length,) = struct.unpack(">3xI", (yield 7))
        yield from _skipped(length)

    def _answer(self) -> None:
        if self._wanted is None or self._changed is None:
            return
        area = self._wanted.cut(self._changed)
        if area.is_empty:
            return
        self._out += struct.pack(">BxHHHHHi", 0, 1, area.x, area.y, area.width, area.height, 0)
        self._out += drawn(self._screen, area, self._pixels)
        self._wanted = self._changed = None


_MESSAGES: dict[int, Callable[[RfbServer], Talk]] = {
    0: RfbServer._set_pixels,
    2: RfbServer._set_encodings,
    3: RfbServer._update,
    4: RfbServer._key,
    5: RfbServer._pointer,
    6: RfbServer._cut_text,
}
"""By number; others exist only where a server has offered them."""

_SKIP_BYTES = 4096


def _skipped(length: int) -> Talk:
    """Reads past what is of no use, without holding it."""
    while length > 0:
        part = min(length, _SKIP_BYTES)
        yield part
        length -= part
