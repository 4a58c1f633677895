"""What somebody who has proven nothing can make us do: little, and nothing that grows with his patience."""

import logging

import pytest
import structlog
from aioquic import tls
from aioquic.quic.packet import QuicFrameType
from structlog.testing import capture_logs

from nano.fabric.links.sparing import LINES, Sparing
from nano.service import configure_logging
from tests.conformance.quic_rows import frame
from tests.conformance.scene import Scene

MANY = 60


async def _shown_the_door(sparing: Sparing) -> None:
    Scene(liar="stranger", sparing=sparing).connected().close()


async def _cannot_be_read(sparing: Sparing) -> None:
    scene = Scene(sparing=sparing).begin()
    payload = frame(QuicFrameType.CRYPTO, 0, 6) + b"\x01\0\0\x02ab"
    scene.deliver(scene.liar.seal(payload.ljust(1150, b"\0"), tls.Epoch.INITIAL).ljust(1200, b"\0"))
    assert scene.link.error is not None
    scene.close()


async def _breaks_the_rules(sparing: Sparing) -> None:
    scene = Scene(sparing=sparing).begin()
    scene.deliver(scene.liar.seal(b"\x1e".ljust(1150, b"\0"), tls.Epoch.INITIAL).ljust(1200, b"\0"))
    assert scene.link.error is not None
    scene.close()


@pytest.mark.parametrize("does", [_shown_the_door, _cannot_be_read, _breaks_the_rules])
async def test_a_flood_of_strangers_writes_few_lines(does: object, caplog: pytest.LogCaptureFixture) -> None:
    """aioquic's own warnings are silenced where services set their logging up."""
    assert callable(does)
    sparing = Sparing()
    with capture_logs() as lines, caplog.at_level(logging.ERROR, "quic"):
        for _ in range(MANY):
            await does(sparing)
    assert [line["event"] for line in lines] == ["link.refused"] * LINES
    assert all(len(line["reason"]) <= 200 for line in lines)
    assert not [record for record in caplog.records if record.name == "quic"]


def test_a_service_does_not_write_what_aioquic_warns_of() -> None:
    quic = logging.getLogger("quic")
    level, settings = quic.level, structlog.get_config()
    try:
        configure_logging("test")
        assert not quic.isEnabledFor(logging.WARNING)
    finally:
        quic.setLevel(level)
        structlog.configure(**settings)
        structlog.contextvars.unbind_contextvars("service")


@pytest.mark.parametrize("sent", [1, 2, 5])
async def test_no_more_than_three_times_what_came_goes_to_an_address_that_is_not_proven(sent: int) -> None:
    """Whatever is repeated, and however long it is waited: the good-bye included."""
    scene = Scene().begin()
    (hello, _), *_ = scene.liar.datagrams_to_send(now=scene.now)
    for _ in range(sent):
        scene.deliver(hello)
    for _ in range(30):
        scene.now += 1.0
        scene._look_at_timers()
        assert scene.passed_out <= 3 * scene.passed_in
    scene.close()
    assert 0 < scene.passed_out <= 3 * scene.passed_in
