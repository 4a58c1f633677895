"""Rate control on a simulated bottleneck: it fills the path, keeps the queue short, and shares."""

from statistics import mean

import pytest
from aioquic.quic.congestion.reno import RenoCongestionControl

from nano.fabric.packets.congestion import Phase, RateControl
from tests.support.bottleneck import PACKET_BYTES, Flow, Path, World

RATE, ROUND_TRIP_S = 3e6, 0.020
PRODUCT = RATE * ROUND_TRIP_S


def _control() -> RateControl:
    return RateControl(max_datagram_size=PACKET_BYTES)


def _path(*, queue: float = 2.5, loss: float = 0.0) -> Path:
    """A queue of so many products of rate and round trip."""
    return Path(RATE, ROUND_TRIP_S, queue * PRODUCT, loss)


@pytest.mark.parametrize("loss", [0.0, 0.001, 0.01, 0.03])
def test_random_losses_cost_no_more_than_what_is_lost(loss: float) -> None:
    flow = Flow(_control())
    World(_path(loss=loss), flow).run(4.0)
    assert flow.rate(1.0, 4.0) > (0.95 - loss) * RATE


def test_the_queue_stays_short() -> None:
    flow, path = Flow(_control()), _path()
    World(path, flow).run(4.0)
    assert mean(path.queues[len(path.queues) // 2 :]) < 0.3 * PRODUCT
    assert isinstance(flow.control, RateControl)
    assert flow.control.phase is Phase.CRUISE


def test_a_path_is_found_within_some_round_trips() -> None:
    flow = Flow(_control())
    World(_path(), flow).run(1.0)
    assert flow.rate(0.4, 1.0) > 0.9 * RATE


def test_a_path_that_gets_slower_or_faster_is_followed() -> None:
    flow, path = Flow(_control()), _path()
    world = World(path, flow)
    world.run(2.0)
    path.bytes_per_s = RATE / 3
    world.run(6.0)
    assert flow.rate(4.0, 6.0) > 0.9 * RATE / 3
    assert mean(path.queues[-200:]) < 1.5 * PRODUCT
    path.bytes_per_s = RATE
    world.run(10.0)
    assert flow.rate(8.5, 10.0) > 0.9 * RATE


@pytest.mark.parametrize("queue", [1.0, 2.5])
def test_two_flows_share(queue: float) -> None:
    """The second comes when the first has found its rate. A share needs some looks at the empty path."""
    first, second = Flow(_control()), Flow(_control(), starts_at=1.0)
    World(_path(queue=queue), first, second).run(25.0)
    shares = [flow.rate(12.0, 25.0) / RATE for flow in (first, second)]
    assert min(shares) > 1 / 3
    assert sum(shares) > 0.9


def test_beside_one_that_halves_at_each_loss_neither_gets_less_than_a_third() -> None:
    ours, theirs = Flow(_control()), Flow(RenoCongestionControl(max_datagram_size=PACKET_BYTES))
    World(_path(), ours, theirs).run(25.0)
    shares = [flow.rate(12.0, 25.0) / RATE for flow in (ours, theirs)]
    assert min(shares) > 1 / 3
    assert sum(shares) > 0.9


@pytest.mark.parametrize("loss", [0.0, 0.03])
def test_beside_one_that_keeps_the_queue_full_neither_gets_less_than_a_third(loss: float) -> None:
    """As the kernel's BBR does: two products and some for lumps, of the shortest round trip ever."""
    rate = 7.5e6  # at which the lumps that we allow for are less than the path's own product
    ours, theirs = Flow(_control()), Flow(_Clinging(max_datagram_size=PACKET_BYTES))
    World(Path(rate, ROUND_TRIP_S, 2.5 * rate * ROUND_TRIP_S, loss), ours, theirs).run(25.0)
    shares = [flow.rate(5.0, 25.0) / rate for flow in (ours, theirs)]
    assert min(shares) > 1 / 3
    assert sum(shares) > 0.9


def test_a_queue_that_overflows_lowers_the_window() -> None:
    flow = Flow(_control())
    path = _path(queue=0.2)
    World(path, flow).run(4.0)
    assert flow.rate(1.0, 4.0) > 0.9 * RATE
    assert isinstance(flow.control, RateControl)
    assert flow.control.congestion_window < 3 * PRODUCT


def test_who_has_little_to_send_does_not_lower_the_rate() -> None:
    control = _control()
    flow = Flow(control)
    World(_path(), flow).run(2.0)
    known, now = control.rate, 2.0
    control.bytes_in_flight = 0
    for _ in range(200):
        control.idle()
        control.sent(1000, now)
        mark, now = control.mark, now + ROUND_TRIP_S
        control.arrived(1000, mark, now - ROUND_TRIP_S, now)
    assert control.rate == known


def test_a_process_that_comes_late_keeps_the_rate_for_longer() -> None:
    kept, lost = _control(), _control()
    for control in (kept, lost):
        World(_path(), Flow(control)).run(1.0)
        control.bytes_in_flight, now = 0, 1.0
        for _ in range(60):
            if control is kept:
                control.late(now)
            control.sent(10_000, now)
            mark, now = control.mark, now + ROUND_TRIP_S
            control.arrived(10_000, mark, now - ROUND_TRIP_S, now)
    assert kept.rate > 0.9 * RATE
    assert lost.rate < 0.5 * RATE


def test_after_a_long_silence_everything_is_found_out_anew() -> None:
    control = _control()
    World(_path(), Flow(control)).run(2.0)
    control.on_persistent_congestion()
    assert control.phase is Phase.STARTUP
    assert control.congestion_window == 4 * PACKET_BYTES
    assert control.rate == 0
    assert control.pacing_rate is None


class _Clinging(RateControl):
    """Remembers the empty path for ever, and has more under way than twice what it carries."""

    _EXTRA_BYTES = 45_000

    def on_rtt_measurement(self, *, now: float, rtt: float) -> None:
        super().on_rtt_measurement(now=now, rtt=min(rtt, ROUND_TRIP_S))

    def _set_window(self) -> None:
        super()._set_window()
        if self.phase is Phase.CRUISE:
            self.congestion_window = int(2.0 * self._product() + self._EXTRA_BYTES)
