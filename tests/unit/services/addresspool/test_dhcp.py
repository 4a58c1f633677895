"""What guests are told, case by case of RFC 2131; strangers are told nothing at all."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.bindings.messages import Entry
from nano.model.address import Binding, Provider
from nano.model.errors import Corrupt
from services.addresspool.dhcp import DECLINE_HOLD_MS, SILENCE, Server, Turn, receive
from services.addresspool.packet import (
    EVERY_MAC,
    EVERYBODY,
    NOWHERE,
    Frame,
    Kind,
    Message,
    Op,
    Option,
    decode,
    encode,
)

NOW_MS = 1_700_000_000_000
MAC = "00:16:3e:00:00:07"
ADDRESS = IPv4Address("10.0.0.7")
OTHER = IPv4Address("10.0.0.8")
RELAY = IPv4Address("10.9.0.1")
SERVER = Server(IPv4Address("10.0.0.1"), "02:4e:0a:00:00:01", 1450)
BINDING = Binding(
    "vm/0",
    ADDRESS,
    IPv4Address("255.255.255.0"),
    IPv4Address("10.0.0.1"),
    (IPv4Address("1.1.1.1"), IPv4Address("9.9.9.9")),
    Provider.DHCP,
    lease_s=800,
)
ENTRY = Entry(MAC, BINDING, hostname="vm")
REQUESTED = {Option.REQUESTED_ADDRESS: ADDRESS.packed}
SERVER_ID = {Option.SERVER_ID: SERVER.address.packed}


def saying(kind: Kind, options: Mapping[Option, bytes] | None = None, **fields: Any) -> Message:
    return replace(
        Message(
            Op.REQUEST,
            kind,
            42,
            MAC,
            options={int(number): value for number, value in (options or {}).items()},
        ),
        **fields,
    )


def tell(message: Message, entry: Entry = ENTRY, sender: str = MAC, now_ms: int = NOW_MS) -> Turn:
    frame = Frame(sender, EVERY_MAC, message.ciaddr, EVERYBODY, 68, 67, encode(message))
    return receive({entry.mac: entry}, frame, SERVER, now_ms)


def answer(turn: Turn) -> tuple[Frame, Message]:
    assert turn.reply is not None
    return turn.reply, decode(turn.reply.payload)


def test_discover_is_offered_the_bound_address_with_all_settings() -> None:
    frame, offer = answer(tell(saying(Kind.DISCOVER)))
    assert (offer.op, offer.kind, offer.yiaddr, offer.ciaddr) == (Op.REPLY, Kind.OFFER, ADDRESS, NOWHERE)
    assert offer.options == {
        Option.SERVER_ID: SERVER.address.packed,
        Option.LEASE_S: (800).to_bytes(4, "big"),
        Option.RENEW_S: (400).to_bytes(4, "big"),
        Option.REBIND_S: (700).to_bytes(4, "big"),
        Option.SUBNET_MASK: bytes([255, 255, 255, 0]),
        Option.ROUTER: bytes([10, 0, 0, 1]),
        Option.DNS: bytes([1, 1, 1, 1, 9, 9, 9, 9]),
        Option.INTERFACE_MTU: (1450).to_bytes(2, "big"),
        Option.HOSTNAME: b"vm",
    }
    assert (frame.target, frame.target_mac, frame.target_port) == (ADDRESS, MAC, 68)
    assert (frame.source, frame.source_mac, frame.source_port) == (SERVER.address, SERVER.mac, 67)


def test_an_offer_is_no_lease_yet() -> None:
    assert tell(saying(Kind.DISCOVER)).entry is None


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(saying(Kind.REQUEST, REQUESTED | SERVER_ID), id="selecting"),
        pytest.param(saying(Kind.REQUEST, REQUESTED), id="init-reboot"),
        pytest.param(saying(Kind.REQUEST, ciaddr=ADDRESS), id="renewing or rebinding"),
    ],
)
def test_a_request_for_its_own_address_is_granted_and_noted(request_: Message) -> None:
    turn = tell(request_)
    _, ack = answer(turn)
    assert (ack.kind, ack.yiaddr, ack.ciaddr) == (Kind.ACK, ADDRESS, request_.ciaddr)
    assert turn.entry == replace(ENTRY, granted_ms=NOW_MS)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(
            saying(Kind.REQUEST, {Option.REQUESTED_ADDRESS: OTHER.packed, **SERVER_ID}), id="selecting"
        ),
        pytest.param(saying(Kind.REQUEST, {Option.REQUESTED_ADDRESS: OTHER.packed}), id="init-reboot"),
        pytest.param(saying(Kind.REQUEST, ciaddr=OTHER), id="renewing or rebinding"),
    ],
)
def test_a_request_for_another_address_is_refused_to_everybodys_ears(request_: Message) -> None:
    turn = tell(request_)
    frame, nak = answer(turn)
    assert (nak.kind, nak.yiaddr, turn.entry) == (Kind.NAK, NOWHERE, None)
    assert Option.LEASE_S not in nak.options
    assert (frame.target, frame.target_mac) == (EVERYBODY, EVERY_MAC)


def test_a_guest_that_took_another_servers_offer_is_left_in_peace() -> None:
    other = {Option.SERVER_ID: OTHER.packed}
    assert tell(saying(Kind.REQUEST, REQUESTED | other)) == SILENCE


def test_a_request_without_any_address_is_not_answered() -> None:
    assert tell(saying(Kind.REQUEST)) == SILENCE


@given(st.sampled_from(Kind), st.booleans(), st.integers(0, 2**32 - 1), st.booleans())
def test_a_stranger_hears_nothing_whatever_he_says(
    kind: Kind, named: bool, wished: int, relayed: bool
) -> None:
    options = {Option.REQUESTED_ADDRESS: wished.to_bytes(4, "big"), **(SERVER_ID if named else {})}
    stranger = "00:16:3e:ff:ff:ff"
    said = saying(
        kind, options, mac=stranger, giaddr=RELAY if relayed else NOWHERE, ciaddr=IPv4Address(wished)
    )
    assert tell(said, sender=stranger) == SILENCE


def test_a_guest_cannot_speak_for_another_one() -> None:
    release = saying(Kind.RELEASE, SERVER_ID, ciaddr=ADDRESS)
    assert tell(release, replace(ENTRY, granted_ms=5), sender="00:16:3e:00:00:66") == SILENCE


def test_a_server_is_not_taken_for_a_client() -> None:
    assert tell(saying(Kind.DISCOVER, op=Op.REPLY)) == SILENCE


def test_the_broadcast_flag_is_honoured() -> None:
    frame, offer = answer(tell(saying(Kind.DISCOVER, broadcast=True)))
    assert (frame.target, frame.target_mac, offer.broadcast) == (EVERYBODY, EVERY_MAC, True)


def test_a_guest_that_has_its_address_is_answered_there_whatever_its_flag_says() -> None:
    frame, _ = answer(tell(saying(Kind.REQUEST, ciaddr=ADDRESS, broadcast=True)))
    assert (frame.target, frame.target_mac) == (ADDRESS, MAC)


def test_a_relay_gets_the_reply_with_its_own_information() -> None:
    options = {Option.CLIENT_ID: b"\x01id", Option.RELAY_AGENT: b"port 7"}
    frame, offer = answer(tell(saying(Kind.DISCOVER, options, giaddr=RELAY), sender="02:00:00:00:00:99"))
    assert (frame.target, frame.target_mac, frame.target_port) == (RELAY, "02:00:00:00:00:99", 67)
    assert offer.giaddr == RELAY
    assert list(offer.options)[-2:] == [Option.CLIENT_ID, Option.RELAY_AGENT]
    assert offer.options[Option.CLIENT_ID] == b"\x01id"
    assert offer.options[Option.RELAY_AGENT] == b"port 7"


def test_a_refusal_through_a_relay_asks_it_to_broadcast() -> None:
    wrong = {Option.REQUESTED_ADDRESS: OTHER.packed}
    _, nak = answer(tell(saying(Kind.REQUEST, wrong, giaddr=RELAY), sender="02:00:00:00:00:99"))
    assert (nak.kind, nak.broadcast) == (Kind.NAK, True)


def test_a_declined_address_is_held_back_and_then_offered_again() -> None:
    declined = tell(saying(Kind.DECLINE, REQUESTED | SERVER_ID), replace(ENTRY, granted_ms=5)).entry
    assert declined == replace(ENTRY, granted_ms=0, declined_ms=NOW_MS)
    for again in (saying(Kind.DISCOVER), saying(Kind.REQUEST, REQUESTED)):
        assert tell(again, declined, now_ms=NOW_MS + DECLINE_HOLD_MS - 1) == SILENCE
        answer(tell(again, declined, now_ms=NOW_MS + DECLINE_HOLD_MS))


def test_a_clock_that_was_set_back_holds_nothing_back_for_ever() -> None:
    declined = replace(ENTRY, declined_ms=NOW_MS)
    answer(tell(saying(Kind.DISCOVER), declined, now_ms=NOW_MS - 1))


def test_taking_the_lease_ends_the_hold() -> None:
    turn = tell(saying(Kind.REQUEST, ciaddr=ADDRESS), replace(ENTRY, declined_ms=NOW_MS))
    assert turn.entry == replace(ENTRY, granted_ms=NOW_MS)


def test_a_release_ends_the_lease_and_is_not_answered() -> None:
    turn = tell(saying(Kind.RELEASE, SERVER_ID, ciaddr=ADDRESS), replace(ENTRY, granted_ms=5))
    assert turn == Turn(entry=ENTRY)


@pytest.mark.parametrize("kind", [Kind.DECLINE, Kind.RELEASE])
def test_what_is_said_to_another_server_changes_nothing(kind: Kind) -> None:
    other = REQUESTED | {Option.SERVER_ID: OTHER.packed}
    assert tell(saying(kind, other, ciaddr=ADDRESS), replace(ENTRY, granted_ms=5)) == SILENCE


def test_inform_is_told_the_settings_but_gets_no_lease() -> None:
    turn = tell(saying(Kind.INFORM, ciaddr=OTHER))
    frame, ack = answer(turn)
    assert (ack.kind, ack.yiaddr, ack.ciaddr, turn.entry) == (Kind.ACK, NOWHERE, OTHER, None)
    assert ack.options[Option.ROUTER] == bytes([10, 0, 0, 1])
    assert not {Option.LEASE_S, Option.RENEW_S, Option.REBIND_S} & ack.options.keys()
    assert frame.target == OTHER


def test_inform_without_an_address_cannot_be_answered() -> None:
    assert tell(saying(Kind.INFORM)) == SILENCE


@pytest.mark.parametrize("kind", [Kind.OFFER, Kind.ACK, Kind.NAK])
def test_what_only_servers_say_is_not_answered(kind: Kind) -> None:
    assert tell(saying(kind, REQUESTED, ciaddr=ADDRESS)) == SILENCE


def test_a_reply_never_exceeds_what_the_client_takes() -> None:
    crowd = {Option.CLIENT_ID: bytes(250), Option.RELAY_AGENT: bytes(250), Option.MAX_SIZE: b"\x00\x10"}
    frame, offer = answer(tell(saying(Kind.DISCOVER, crowd)))
    assert len(frame.payload) + 28 <= 576
    assert Option.ROUTER in offer.options


def test_an_mtu_beyond_sixteen_bits_is_cut_to_them() -> None:
    message = saying(Kind.DISCOVER)
    frame = Frame(MAC, EVERY_MAC, NOWHERE, EVERYBODY, 68, 67, encode(message))
    _, offer = answer(receive({MAC: ENTRY}, frame, replace(SERVER, mtu_bytes=65_536), NOW_MS))
    assert offer.options[Option.INTERFACE_MTU] == b"\xff\xff"


def test_a_frame_without_dhcp_is_refused() -> None:
    with pytest.raises(Corrupt):
        receive({MAC: ENTRY}, Frame(MAC, EVERY_MAC, NOWHERE, EVERYBODY, 68, 67, b"?"), SERVER, NOW_MS)
