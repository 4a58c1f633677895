"""No input breaks a target's promise: seeds, seeds bent by hypothesis, and a search guided by coverage."""

import functools
import importlib.util
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import door, links
from tests.fuzz.target import Target, packed, pieces
from tests.fuzz.targets import TARGETS

SECONDS = 3
PATIENCE_S = 240
"""A bound, never a wait: the search itself is over after `SECONDS`."""

NAMES = sorted(TARGETS)
_FEW = {target.name for target in (*door.TARGETS, *links.TARGETS)}
"""Each of their inputs is a handshake and more."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What is refused is logged, thousands of times here."""
    logging.disable(logging.CRITICAL)
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)
    logging.disable(logging.NOTSET)


@functools.cache
def _seeds(name: str) -> list[bytes]:
    return [*TARGETS[name].seeds(), *TARGETS[name].found]


@pytest.mark.parametrize("name", NAMES)
def test_what_our_encoders_make_and_what_was_found_pass(name: str) -> None:
    for seed in _seeds(name):
        TARGETS[name].run(seed)


@st.composite
def _bent(draw: st.DrawFn, target: Target) -> bytes:
    """A seed with some bytes changed, added, taken out or repeated; or anything at all."""
    data = bytearray(draw(st.one_of(st.sampled_from(_seeds(target.name)), st.binary(max_size=200))))
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["change", "add", "take", "repeat"])):
            case "change":
                data[at : at + 1] = draw(st.sampled_from([b"\0", b"\1", b"\x3f", b"\x7f", b"\x80", b"\xff"]))
            case "add":
                data[at:at] = draw(st.binary(min_size=1, max_size=9))
            case "take":
                del data[at : at + draw(st.integers(1, 9))]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
    return bytes(data[: target.longest_bytes])


@pytest.mark.parametrize("name", NAMES)
def test_a_bent_seed_is_answered_or_refused(name: str) -> None:
    target = TARGETS[name]

    @given(_bent(target))
    @settings(max_examples=40 if name in _FEW else 300)
    def holds(data: bytes) -> None:
        target.run(data)

    holds()


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris has no wheel for this version of Python (pyproject.toml names those it has)",
)
@pytest.mark.parametrize("name", NAMES)
def test_a_search_guided_by_coverage_finds_nothing(name: str) -> None:
    search = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(SECONDS), "--seed", "1"],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert search.returncode == 0, search.stderr[-4000:]
    assert "stat::number_of_executed_units" in search.stderr


def test_the_doors_seeds_reach_the_end_of_a_conversation() -> None:
    """Where a person would have to decide; a target that never gets there would find nothing behind it."""
    assert [door.waiting_after(seed) for seed in TARGETS["door"].seeds()] == [1, 0, 0, 0]


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=50)), max_size=5))
def test_an_input_is_read_as_it_was_packed(parts: list[tuple[int, bytes]]) -> None:
    assert pieces(packed(*parts)) == parts
