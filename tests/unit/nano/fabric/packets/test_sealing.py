"""Packets sealed and opened in batches: both twins alike, and alike to aioquic, which is the measure."""

import importlib.util
import subprocess
import sys

import pytest
from aioquic.quic.crypto import CryptoPair
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.packets.sealing import (
    Keys,
    MakeKeys,
    PureKeys,
    make_keys,
    nearest,
    only_stream,
    take_varint,
    varint,
)

BUILT = importlib.util.find_spec("nano.fabric.packets._sealing") is not None
ID = bytes(range(8))
SECRETS = (bytes(range(16)), bytes(range(12)), bytes(range(50, 66)))

keys_of = st.sampled_from([16, 32]).flatmap(
    lambda size: st.tuples(
        st.binary(min_size=size, max_size=size),
        st.binary(min_size=12, max_size=12),
        st.binary(min_size=size, max_size=size),
    )
)
numbers = st.one_of(st.integers(0, 200_000), st.integers(0, 2**40))
offsets = st.one_of(st.just(0), st.integers(0, 2**61), st.integers(50, 80), st.integers(16_000, 17_000))


def _twins() -> list[MakeKeys]:
    if not BUILT:
        return [PureKeys]
    from nano.fabric.packets import _sealing  # noqa: PLC0415 - there only where it could be built

    return [PureKeys, _sealing.Keys]


@pytest.fixture(params=_twins(), ids=lambda made: made.__module__.rpartition(".")[2])
def make(request: pytest.FixtureRequest) -> MakeKeys:
    made: MakeKeys = request.param
    return made


def _train(packets: list[tuple[bytes, int]]) -> bytes:
    return b"".join(packet for packet, _ in packets)


@pytest.mark.skipif(
    not BUILT, reason="the helper was not built here: no compiler, or no headers of libcrypto"
)
@given(
    secrets=keys_of,
    number=numbers,
    stream_id=st.integers(0, 2**40),
    offset=offsets,
    data=st.binary(max_size=6000),
    cut=st.integers(0, 50),
    fin=st.booleans(),
    size=st.integers(60, 3000),
    limit=st.integers(0, 40),
)
def test_both_twins_seal_the_same(  # noqa: PLR0917 - hypothesis names them
    secrets: tuple[bytes, bytes, bytes],
    number: int,
    stream_id: int,
    offset: int,
    data: bytes,
    cut: int,
    fin: bool,
    size: int,
    limit: int,
) -> None:
    start = min(cut, len(data))
    pure, built = (
        made(*secrets).seal(0x41, ID, number, stream_id, offset, data, start, len(data), fin, size, limit)
        for made in _twins()
    )
    assert pure == built
    assert len(pure) <= limit
    assert all(len(packet) <= size for packet, _ in pure)


@pytest.mark.skipif(
    not BUILT, reason="the helper was not built here: no compiler, or no headers of libcrypto"
)
@given(
    secrets=keys_of,
    number=st.integers(0, 200_000),
    offset=offsets,
    data=st.binary(min_size=1, max_size=6000),
    fin=st.booleans(),
    size=st.integers(60, 1500),
    segment=st.one_of(st.none(), st.integers(1, 200)),
    behind=st.integers(-70_000, 70_000),
    largest=st.integers(-70_000, 70_000),
    phase=st.integers(0, 1),
    damage=st.lists(st.tuples(st.integers(0, 6000), st.integers(1, 255)), max_size=3),
)
def test_both_twins_open_the_same(  # noqa: PLR0917 - hypothesis names them
    secrets: tuple[bytes, bytes, bytes],
    number: int,
    offset: int,
    data: bytes,
    fin: bool,
    size: int,
    segment: int | None,
    behind: int,
    largest: int,
    phase: int,
    damage: list[tuple[int, int]],
) -> None:
    """Whatever comes: whole packets, damaged ones, other lengths, numbers from before or far ahead."""
    sealed = PureKeys(*secrets).seal(0x41, ID, number, 4, offset, data, 0, len(data), fin, size, 100)
    train = bytearray(_train(sealed))
    for at, flip in damage:
        if at < len(train):
            train[at] ^= flip
    expected = max(number + behind, 0)
    pure, built = (
        made(*secrets).open(bytes(train), segment or size, ID, expected, number + largest, phase)
        for made in _twins()
    )
    assert pure == built


@given(st.binary(max_size=400), st.integers(1, 100))
def test_no_bytes_upset_either_twin(train: bytes, segment: int) -> None:
    found = [made(*SECRETS).open(train, segment, ID, 0, -1, 0) for made in _twins()]
    assert all(one == found[0] for one in found)
    assert b"".join(item[6] for item in found[0]) == train
    assert all(item[2] == 0 for item in found[0])


def test_aioquic_opens_what_was_sealed_here(make: MakeKeys) -> None:
    pair = CryptoPair()
    pair.setup_initial(ID, is_client=True, version=1)
    keys = _keys_of(make, pair)
    data = bytes(range(256)) * 20
    packets = keys.seal(0x41, ID, 70_000, 8, 100, data, 0, len(data), True, 1200, 100)
    plains = [pair.send.decrypt_packet(packet, 9, 70_000 + n)[1] for n, (packet, _) in enumerate(packets)]
    pieces = [only_stream(plain) for plain in plains]
    assert [piece[0] for piece in pieces if piece] == [8] * len(packets)
    assert b"".join(plain[piece[2] :] for plain, piece in zip(plains, pieces, strict=True) if piece) == data
    assert [plain[0] & 1 for plain in plains] == [0] * (len(packets) - 1) + [1], "only the last one ends it"
    assert packets[-1][1] == 100 + len(data)


def test_a_run_of_packets_becomes_one_piece(make: MakeKeys) -> None:
    keys = make(*SECRETS)
    first = keys.seal(0x41, ID, 10, 4, 0, bytes(5000), 0, 5000, False, 1200, 100)
    second = keys.seal(0x41, ID, 10 + len(first), 8, 0, b"x" * 5000, 0, 5000, True, 1200, 100)
    runs = [
        found for train in (_train(first), _train(second)) for found in keys.open(train, 1200, ID, 10, 9, 0)
    ]
    assert [(run[1], run[2], run[3], run[4], run[5], run[6]) for run in runs] == [
        (10, len(first), 4, 0, False, bytes(5000)),
        (10 + len(first), len(second), 8, 0, True, b"x" * 5000),
    ]


def test_a_gap_a_repetition_and_another_phase_are_told_apart(make: MakeKeys) -> None:
    keys = make(*SECRETS)
    packets = [packet for packet, _ in keys.seal(0x41, ID, 0, 4, 0, bytes(4000), 0, 3456, False, 600, 6)]
    train = b"".join((packets[0], packets[1], packets[3], packets[3], packets[2]))
    counts = [(found[1], found[2]) for found in keys.open(train, 600, ID, 0, -1, 0)]
    assert counts == [(0, 2), (3, 1), (0, 0), (0, 0)], "what is not newer than the newest is left to aioquic"
    assert [found[2] for found in keys.open(train, 600, ID, 0, -1, 1)] == [0] * 5


@pytest.mark.parametrize(
    "secrets",
    [(bytes(16), bytes(11), bytes(16)), (bytes(15), bytes(12), bytes(15)), (bytes(16), bytes(12), bytes(32))],
)
def test_keys_of_other_lengths_are_refused(make: MakeKeys, secrets: tuple[bytes, bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="16 or 32 bytes"):
        make(*secrets)


def test_bounds_are_checked(make: MakeKeys) -> None:
    keys = make(*SECRETS)
    with pytest.raises(ValueError, match="out of bounds"):
        keys.seal(0x41, ID, 0, 4, 0, b"short", 0, 6, False, 1200, 1)
    with pytest.raises(ValueError, match="out of bounds"):
        keys.seal(0x41, bytes(21), 0, 4, 0, b"short", 0, 5, False, 1200, 1)
    with pytest.raises(ValueError, match="out of bounds"):
        keys.open(b"abc", 0, ID, 0, -1, 0)


@given(st.integers(0, 2**62 - 1))
def test_a_varint_comes_back(value: int) -> None:
    assert take_varint(b"." + varint(value) + b".", 1) == (value, 1 + len(varint(value)))


@given(st.integers(0, 2**40), st.integers(-30_000, 30_000))
def test_a_number_is_found_by_its_last_two_bytes(expected: int, away: int) -> None:
    number = max(expected + away, 0)
    assert nearest(number & 0xFFFF, expected) == number


def test_python_alone_can_be_asked_for() -> None:
    code = "from nano.fabric.packets import sealing; print(sealing.make_keys is sealing.PureKeys)"
    run = subprocess.run(
        [sys.executable, "-c", code], env={"NANO_PURE": "1"}, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "True"
    assert (make_keys is PureKeys) == (not BUILT)


def _keys_of(make: MakeKeys, pair: CryptoPair) -> Keys:
    from aioquic.quic.crypto import derive_key_iv_hp  # noqa: PLC0415 - only here

    assert pair.send.cipher_suite is not None
    assert pair.send.secret is not None
    return make(*derive_key_iv_hp(cipher_suite=pair.send.cipher_suite, secret=pair.send.secret, version=1))
