"""Handshakes under way: who may begin, who proves its address first, who waits."""

import os

import pytest
from aioquic.quic.packet import QuicHeader, QuicPacketType, QuicProtocolVersion

from nano.fabric.packets.half_open import HANDSHAKE_S, LIMIT, RETRY_ABOVE, Entry, HalfOpen
from nano.fabric.packets.quic import header_of

ADDRESS = ("10.0.0.7", 5604)


def _first(token: bytes = b"", *, to: bytes = b"theirname", own: bytes = b"") -> QuicHeader:
    return QuicHeader(
        version=QuicProtocolVersion.VERSION_1,
        packet_type=QuicPacketType.INITIAL,
        packet_length=1200,
        destination_cid=to,
        source_cid=own or b"senders",
        token=token,
        integrity_tag=b"",
        supported_versions=[],
    )


def _crowded(count: int = RETRY_ABOVE) -> HalfOpen[int]:
    half_open = HalfOpen[int]()
    for number in range(count):
        half_open.began(number, 0.0)
    return half_open


def _retry(half_open: HalfOpen[int], now: float = 0.0) -> QuicHeader:
    answer = half_open.admit(_first(), ADDRESS, now)
    assert isinstance(answer, bytes)
    header = header_of(answer)
    assert header is not None
    assert header.packet_type is QuicPacketType.RETRY
    assert header.destination_cid == b"senders"
    assert header.source_cid is not None
    return header


def test_while_few_are_under_way_each_may_begin() -> None:
    half_open = _crowded(RETRY_ABOVE - 1)
    assert half_open.admit(_first(), ADDRESS, 0) == Entry(b"theirname")


def test_one_more_and_addresses_are_proven() -> None:
    half_open = _crowded()
    retry = _retry(half_open)
    assert len(half_open) == RETRY_ABOVE
    assert half_open.retries == 1
    again = half_open.admit(_first(retry.token, to=retry.source_cid), ADDRESS, 1)
    assert again == Entry(b"theirname", retry.source_cid)


def test_a_token_that_comes_when_the_crowd_is_gone_still_says_what_the_sender_called_us() -> None:
    half_open = _crowded()
    retry = _retry(half_open)
    for number in range(RETRY_ABOVE):
        half_open.done(number)
    again = half_open.admit(_first(retry.token, to=retry.source_cid), ADDRESS, 1)
    assert again == Entry(b"theirname", retry.source_cid)


@pytest.mark.parametrize(
    ("address", "later_s"), [(("10.0.0.8", 5604), 0.0), (("10.0.0.7", 5605), 0.0), (ADDRESS, 31.0)]
)
def test_a_token_is_good_for_its_address_and_for_half_a_minute(
    address: tuple[str, int], later_s: float
) -> None:
    half_open = _crowded()
    retry = _retry(half_open)
    answer = half_open.admit(_first(retry.token, to=retry.source_cid), address, later_s)
    assert isinstance(answer, bytes), "asked anew"


def test_an_invented_token_is_as_good_as_none() -> None:
    invented = _first(os.urandom(90))
    assert isinstance(_crowded().admit(invented, ADDRESS, 0), bytes)
    assert HalfOpen[int]().admit(invented, ADDRESS, 0) == Entry(b"theirname")


def test_at_the_limit_nobody_begins() -> None:
    half_open = _crowded()
    retry = _retry(half_open)
    for number in range(LIMIT):
        half_open.began(number, 0.0)
    assert half_open.admit(_first(retry.token, to=retry.source_cid), ADDRESS, 1) is None
    assert half_open.refused == 1
    half_open.done(7)
    assert isinstance(half_open.admit(_first(retry.token, to=retry.source_cid), ADDRESS, 1), Entry)


def test_first_packets_that_were_none_count_for_a_second() -> None:
    half_open = HalfOpen[int]()
    for _ in range(RETRY_ABOVE):
        half_open.wasted(10.0)
    assert isinstance(half_open.admit(_first(), ADDRESS, 10.9), bytes)
    assert half_open.admit(_first(), ADDRESS, 11.1) == Entry(b"theirname")


def test_the_overdue_are_named_oldest_first() -> None:
    half_open = HalfOpen[str]()
    for name, began in (("a", 0.0), ("b", 1.0), ("c", 2.0)):
        half_open.began(name, began)
    assert half_open.overdue(HANDSHAKE_S - 0.1) == []
    assert half_open.overdue(HANDSHAKE_S + 1) == ["a", "b"]
