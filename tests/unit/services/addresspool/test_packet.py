"""DHCP messages and frames: what is written is read again, and no bytes whatever do more than be refused."""

from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.model.errors import Corrupt
from services.addresspool.packet import (
    SMALLEST_LIMIT_BYTES,
    Frame,
    Kind,
    Message,
    Op,
    Option,
    decode,
    decode_frame,
    encode,
    encode_frame,
    mac_text,
)

MESSAGE = Message(
    Op.REQUEST,
    Kind.REQUEST,
    0xDEADBEEF,
    "00:16:3e:00:00:07",
    options={Option.REQUESTED_ADDRESS: bytes([10, 0, 0, 7])},
)
FRAME = Frame(
    "00:16:3e:00:00:07",
    "ff:ff:ff:ff:ff:ff",
    IPv4Address("0.0.0.0"),
    IPv4Address("255.255.255.255"),
    68,
    67,
    encode(MESSAGE),
)
OPTIONS_AT = 240
FILE_AT = 108

addresses = st.integers(0, 2**32 - 1).map(IPv4Address)
macs = st.binary(min_size=6, max_size=6).map(mac_text)
free_options = st.integers(1, 254).filter(lambda number: number not in {50, 52, 53, 54, 57})
messages = st.builds(
    Message,
    op=st.sampled_from(Op),
    kind=st.sampled_from(Kind),
    xid=st.integers(0, 2**32 - 1),
    mac=macs,
    broadcast=st.booleans(),
    ciaddr=addresses,
    yiaddr=addresses,
    giaddr=addresses,
    options=st.dictionaries(free_options, st.binary(max_size=300), max_size=4),
)
frames = st.builds(
    Frame,
    source_mac=macs,
    target_mac=macs,
    source=addresses,
    target=addresses,
    source_port=st.integers(0, 65_535),
    target_port=st.integers(0, 65_535),
    payload=st.binary(max_size=600),
)


@given(messages)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    assert decode(encode(message)) == message


@given(frames)
def test_a_frame_is_read_as_it_was_written(frame: Frame) -> None:
    assert decode_frame(encode_frame(frame)) == frame


@given(st.binary(max_size=700))
def test_rubbish_is_refused_and_nothing_else_happens(data: bytes) -> None:
    for read in (decode, decode_frame):
        with pytest.raises(Corrupt):
            read(data)


@given(st.data())
def test_a_damaged_message_is_read_or_refused_whole(data: st.DataObject) -> None:
    written = bytearray(encode(MESSAGE))
    for at in data.draw(st.lists(st.integers(0, len(written) - 1), max_size=8)):
        written[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(written)))
    with suppress(Corrupt):
        assert decode(bytes(written[:cut])).limit_bytes >= SMALLEST_LIMIT_BYTES


@given(st.data())
def test_a_damaged_frame_is_read_or_refused_whole(data: st.DataObject) -> None:
    written = bytearray(encode_frame(FRAME))
    for at in data.draw(st.lists(st.integers(0, 60), max_size=8)):
        written[at] = data.draw(st.integers(0, 255))
    with suppress(Corrupt):
        assert len(decode_frame(bytes(written[: data.draw(st.integers(0, len(written)))])).payload) <= len(
            written
        )


def test_a_missing_end_mark_and_padding_are_tolerated() -> None:
    bare = encode(MESSAGE)[:OPTIONS_AT] + bytes([0, 0, 53, 1, 1, 0, 12, 2]) + b"vm"
    assert decode(bare).options == {Option.HOSTNAME: b"vm"}


def test_options_in_pieces_are_joined() -> None:
    pieces = encode(MESSAGE)[:OPTIONS_AT] + bytes([53, 1, 1, 12, 1]) + b"v" + bytes([12, 1]) + b"m\xff"
    assert decode(pieces).options[Option.HOSTNAME] == b"vm"


def test_overloaded_header_fields_are_read_as_options() -> None:
    whole = bytearray(encode(replace(MESSAGE, options={Option.OVERLOAD: b"\x01"})))
    whole[FILE_AT : FILE_AT + 5] = bytes([12, 2]) + b"vm\xff"
    assert decode(bytes(whole)).options == {Option.HOSTNAME: b"vm"}


@pytest.mark.parametrize("option", [Option.REQUESTED_ADDRESS, Option.SERVER_ID, Option.MAX_SIZE])
def test_an_option_of_the_wrong_length_is_refused(option: Option) -> None:
    with pytest.raises(Corrupt, match=f"option {option}"):
        decode(encode(replace(MESSAGE, options={option: b"\x01\x02\x03"})))


@pytest.mark.parametrize(
    ("at", "value", "word"), [(0, 3, "op 3"), (1, 6, "hardware"), (2, 16, "16 bytes"), (236, 0, "cookie")]
)
def test_what_is_no_dhcp_on_ethernet_is_refused(at: int, value: int, word: str) -> None:
    changed = bytearray(encode(MESSAGE))
    changed[at] = value
    with pytest.raises(Corrupt, match=word):
        decode(bytes(changed))


def test_bootp_without_a_kind_is_refused() -> None:
    with pytest.raises(Corrupt, match="no kind"):
        decode(encode(MESSAGE)[:OPTIONS_AT] + b"\xff")


def test_options_that_do_not_fit_are_left_out_by_rank() -> None:
    crowded = replace(MESSAGE, options={Option.ROUTER: bytes(4), 61: bytes(250), 82: bytes(250)})
    written = encode(crowded, limit_bytes=SMALLEST_LIMIT_BYTES)
    assert len(written) + 28 <= SMALLEST_LIMIT_BYTES
    assert list(decode(written).options) == [Option.ROUTER, 61]


def test_the_ipv4_header_adds_up() -> None:
    header = encode_frame(FRAME)[14:34]
    words = [int.from_bytes(header[at : at + 2], "big") for at in range(0, 20, 2)]
    total = sum(words)
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


def test_a_fragment_is_refused() -> None:
    fragment = bytearray(encode_frame(FRAME))
    fragment[20:22] = b"\x20\x00"
    with pytest.raises(Corrupt, match="fragment"):
        decode_frame(bytes(fragment))
