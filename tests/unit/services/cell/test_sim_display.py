"""The simulated screen's RFB: what it says in which order, and what it makes of nonsense. Bytes only."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cell import sim_font
from services.cell.sim_display import (
    CELL_HEIGHT,
    COLUMNS,
    HEIGHT,
    TYPED_LINE,
    VERSION,
    WHOLE,
    WIDTH,
    Area,
    Broken,
    PixelFormat,
    RfbServer,
    Screen,
    drawn,
)

HELLO = VERSION + b"\x01\x01"
UPDATE = struct.Struct(">BxHHHHHi")
PIXELS = PixelFormat()


def screen() -> Screen:
    return Screen("web1", "7c9e6679-7425-40de-944b-e07fc1f90ae7")


def opened(shown: Screen | None = None) -> RfbServer:
    """Behind the handshake, with nothing left to take."""
    server = RfbServer(shown or screen())
    server.receive(HELLO)
    server.take()
    return server


def asked(area: Area = WHOLE, *, incremental: bool = False) -> bytes:
    return struct.pack(">B?HHHH", 3, incremental, area.x, area.y, area.width, area.height)


def key(keysym: int, *, down: bool = True) -> bytes:
    return struct.pack(">B?xxI", 4, down, keysym)


def area_of(update: bytes) -> Area:
    kind, count, *place, encoding = UPDATE.unpack_from(update)
    assert (kind, count, encoding) == (0, 1, 0)
    area = Area(*place)
    assert len(update) == UPDATE.size + area.width * area.height * 4
    return area


def test_the_handshake_is_that_of_3_8_without_security() -> None:
    server = RfbServer(screen())
    assert server.take() == b"RFB 003.008\n"
    server.receive(VERSION)
    assert server.take() == b"\x01\x01"
    server.receive(b"\x01")
    assert server.take() == bytes(4)
    server.receive(b"\x01")
    begun = server.take()
    assert struct.unpack_from(">HH", begun) == (WIDTH, HEIGHT)
    assert begun[4:20] == bytes((32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0))
    name = b"web1 (simulated)"
    assert begun[20:] == len(name).to_bytes(4, "big") + name


@given(st.lists(st.integers(1, 40), max_size=20))
def test_it_does_not_matter_in_which_parts_bytes_come(sizes: list[int]) -> None:
    said = HELLO + key(ord("x")) + bytes((5, 0, 0, 0, 0, 0)) + asked()
    server, whole = RfbServer(screen()), RfbServer(screen())
    whole.receive(said)
    for size in (*sizes, len(said)):
        server.receive(said[:size])
        said = said[size:]
    assert server.take() == whole.take()


def test_a_request_for_all_is_answered_at_once_and_one_for_changes_when_there_are_some() -> None:
    server = opened()
    server.receive(asked())
    assert area_of(server.take()) == WHOLE
    server.receive(asked(incremental=True))
    assert server.take() == b""
    server.receive(key(ord("a")))
    area = area_of(server.take())
    assert (area.x, area.width, area.height) == (0, WIDTH, CELL_HEIGHT)
    server.receive(key(ord("b")))
    assert server.take() == b""  # not asked for
    server.receive(asked(incremental=True))
    assert area_of(server.take()) == area


def test_the_first_request_for_changes_gets_all() -> None:
    server = opened()
    server.receive(asked(incremental=True))
    assert area_of(server.take()) == WHOLE


def test_a_part_is_cut_to_the_screen() -> None:
    server = opened()
    server.receive(asked(Area(600, 390, 100, 100)))
    assert area_of(server.take()) == Area(600, 390, 40, 10)
    server.receive(asked(Area(5000, 5000, 10, 10)))
    assert server.take() == b""


def test_all_who_look_see_what_one_types() -> None:
    shown = screen()
    one, other = opened(shown), opened(shown)
    for server in (one, other):
        server.receive(asked())
        server.take()
        server.receive(asked(incremental=True))
    one.receive(key(ord("x")))
    assert one.take() == other.take() != b""
    other.close()
    one.receive(key(ord("y")))
    assert len(shown.watchers) == 1


def test_keys_make_a_line() -> None:
    shown = screen()
    for letter in "Ab1 ~":
        shown.key(ord(letter))
    assert shown.typed == "Ab1 ~"
    shown.key(0xFF08)
    shown.key(0xFFE1)  # Shift
    shown.key(0x1000020AC)  # beyond ASCII
    assert shown.typed == "Ab1 "
    assert shown.lines[TYPED_LINE][0] == "> Ab1 _"
    for _ in range(200):
        shown.key(ord("z"))
    assert len(shown.lines[TYPED_LINE][0]) == COLUMNS
    shown.key(0xFF0D)
    assert shown.typed == ""
    shown.key(ord("x"))
    shown.clear()
    assert shown.typed == ""


def test_a_key_that_goes_up_types_nothing() -> None:
    shown = screen()
    server = opened(shown)
    server.receive(key(ord("a"), down=False))
    assert shown.typed == ""


def test_the_screen_says_that_nothing_runs_and_whose_it_is() -> None:
    said = " ".join(text for text, _ in screen().lines)
    assert "SIMULATED" in said
    assert "web1" in said
    assert "7c9e6679-7425-40de-944b-e07fc1f90ae7" in said
    assert all(len(text) <= COLUMNS for text, _ in screen().lines)


def test_what_is_drawn_differs_by_what_is_typed() -> None:
    pictures = set()
    for letter in "ABCabc019.,?":
        shown = screen()
        shown.key(ord(letter))
        pictures.add(drawn(shown, WHOLE, PIXELS))
    assert len(pictures) == 9  # small letters look like large ones


@pytest.mark.parametrize(
    ("pixels", "colour", "expected"),
    [
        (PixelFormat(), (1, 2, 3), b"\x03\x02\x01\x00"),
        (PixelFormat(32, True), (1, 2, 3), b"\x00\x01\x02\x03"),
        (PixelFormat(16, False, (31, 63, 31), (11, 5, 0)), (255, 0, 255), b"\x1f\xf8"),
        (PixelFormat(8, False, (7, 7, 3), (0, 3, 6)), (255, 255, 255), b"\xff"),
    ],
)
def test_pixels_are_as_the_client_wants_them(
    pixels: PixelFormat, colour: tuple[int, int, int], expected: bytes
) -> None:
    assert pixels.pixel(colour) == expected
    shown = screen()
    server = opened(shown)
    server.receive(bytes(4) + pixels.written())
    server.receive(asked())
    assert server.take()[UPDATE.size :] == drawn(shown, WHOLE, pixels)
    assert len(drawn(shown, WHOLE, pixels)) == WIDTH * HEIGHT * pixels.bits // 8


def test_what_is_of_no_use_is_passed_over_and_not_held() -> None:
    server = opened()
    server.receive(struct.pack(">BxH", 2, 65535))
    for _ in range(4 * 65535 // 1024):
        server.receive(bytes(1024))
    server.receive(bytes(4 * 65535 % 1024))
    server.receive(struct.pack(">B3xI", 6, 100_000))
    for _ in range(100):
        server.receive(bytes(1000))
        assert len(server._in) <= 4096
    server.receive(asked())
    assert area_of(server.take()) == WHOLE


@pytest.mark.parametrize(
    "said",
    [
        b"RFB 003.003\n",
        b"GET / HTTP/1.",
        VERSION + b"\x02",
        HELLO + b"\xff",
        HELLO + b"\x96" + bytes(9),
        HELLO + bytes(4) + PixelFormat(24).written(),
        HELLO + bytes(4) + PixelFormat(8).written(),
        HELLO + bytes(4) + struct.pack(">BB??HHHBBB3x", 8, 8, False, False, 0, 0, 0, 0, 0, 0),
    ],
)
def test_nonsense_is_the_end(said: bytes) -> None:
    server = RfbServer(screen())
    with pytest.raises(Broken):
        server.receive(said)


@given(st.binary(max_size=200))
def test_no_bytes_break_it_otherwise(noise: bytes) -> None:
    server = opened()
    try:
        server.receive(noise)
    except Broken:
        return
    server.take()


def test_every_letter_of_ascii_is_drawn_and_no_two_alike() -> None:
    letters = [chr(code) for code in range(0x20, 0x7F) if not chr(code).islower()]
    glyphs = [sim_font.glyph(letter) for letter in letters]
    assert len(set(glyphs)) == len(letters)
    assert all(len(rows) == sim_font.ROWS for rows in glyphs)
    assert all(len(row) == sim_font.COLUMNS and set(row) <= set(".#") for rows in glyphs for row in rows)
    assert sim_font.glyph("\u00e4") not in glyphs
