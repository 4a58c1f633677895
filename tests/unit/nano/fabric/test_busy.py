"""Signs of a busy peer: only its own, only new ones."""

from hypothesis import given
from hypothesis import strategies as st

from nano.fabric import datagrams
from nano.fabric.busy import FIRST_BYTE, Busy, BusyPeer, id_of
from nano.fabric.quic import header_of


def test_each_sign_is_good_once_and_in_order() -> None:
    busy = Busy()
    peer = BusyPeer(busy.secret)
    first, second, third = (busy.sign() for _ in range(3))
    assert id_of(first) == peer.id
    assert peer.proves(first)
    assert not peer.proves(first)
    assert peer.proves(third)
    assert not peer.proves(second)


def test_signs_of_others_prove_nothing() -> None:
    busy, other = Busy(), Busy()
    peer = BusyPeer(busy.secret)
    assert not peer.proves(other.sign())
    forged = BusyPeer(busy.secret[:8] + other.secret[8:])
    assert not forged.proves(busy.sign())


@given(st.integers(0, 28), st.integers(1, 255))
def test_a_sign_with_any_byte_changed_proves_nothing(at: int, change: int) -> None:
    busy = Busy()
    peer = BusyPeer(busy.secret)
    sign = bytearray(busy.sign())
    sign[at] ^= change
    assert not peer.proves(bytes(sign))
    assert peer.proves(busy.sign()), "a forged one spoils none that follow"


@given(st.binary(max_size=40))
def test_noise_proves_nothing(noise: bytes) -> None:
    assert not BusyPeer(Busy().secret).proves(FIRST_BYTE + noise)


def test_no_packet_of_quic_begins_like_a_sign() -> None:
    assert header_of(Busy().sign()) is None
    assert not FIRST_BYTE[0] & 0x40


def test_the_secret_travels_in_a_datagram() -> None:
    busy = Busy()
    assert datagrams.busy_secret(datagrams.busy(busy.secret)) == busy.secret
