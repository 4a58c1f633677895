"""What libvirt answers, in our words."""

from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.model.errors import Conflict
from nano.model.ids import InstanceId
from nano.model.instance import Power
from services.cell.hypervisor import Counters
from services.cell.libvirt_driver import LibvirtHypervisor, addresses, counters
from tests.support.cell import INSTANCE
from tests.support.hypervisor import MIB


def test_a_row_of_libvirts_statistics_is_summed_over_disks_and_cards() -> None:
    row = {
        "vcpu.current": 2,
        "cpu.time": 5_000,
        "balloon.current": 1024,
        "balloon.usable": 256,
        "balloon.unused": 128,
        "balloon.rss": 2048,
        "block.count": 2,
        "block.0.allocation": 10,
        "block.0.capacity": 100,
        "block.0.rd.bytes": 1,
        "block.0.wr.bytes": 2,
        "block.1.capacity": 100,
        "block.1.rd.bytes": 3,
        "block.1.wr.bytes": 4,
        "net.count": 1,
        "net.0.rx.bytes": 5,
        "net.0.tx.bytes": 6,
    }
    assert counters(INSTANCE, row) == Counters(
        INSTANCE,
        2,
        5_000,
        768 * 1024,
        MIB,
        10,
        200,
        read_bytes=4,
        written_bytes=6,
        received_bytes=5,
        sent_bytes=6,
    )


def test_without_a_balloon_driver_the_hosts_own_figure_counts() -> None:
    seen = counters(INSTANCE, {"balloon.current": 1024, "balloon.rss": 512})
    assert (seen.memory_used_bytes, seen.memory_total_bytes) == (512 * 1024, MIB)
    seen = counters(INSTANCE, {"balloon.current": 1024, "balloon.rss": 4096})
    assert seen.memory_used_bytes == seen.memory_total_bytes


def test_an_empty_row_is_no_error() -> None:
    assert counters(INSTANCE, {}).cores == 1


ANSWER = {
    "lo": {"addrs": [{"addr": "127.0.0.1", "prefix": 8, "type": 0}]},
    "eth0": {
        "addrs": [
            {"addr": "10.57.0.9", "prefix": 24, "type": 0},
            {"addr": "fe80::216:3eff:fe00:1", "prefix": 64, "type": 1},
        ],
        "hwaddr": "00:16:3e:00:00:01",
    },
    "eth1": {"addrs": None},
}


def test_the_guests_addresses_leave_out_loopback_and_version_six() -> None:
    assert addresses(ANSWER) == (IPv4Address("10.57.0.9"),)
    assert addresses(None) == ()


NONSENSE = st.recursive(
    st.none() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
)


@given(
    st.dictionaries(
        st.text(),
        st.none()
        | st.fixed_dictionaries({"addrs": st.none() | st.lists(st.fixed_dictionaries({"addr": NONSENSE}))}),
    )
)
def test_a_guest_may_say_what_it_likes(answer: dict[str, Any]) -> None:
    assert all(isinstance(each, IPv4Address) and not each.is_loopback for each in addresses(answer))


@pytest.mark.parametrize("power", list(Power))
async def test_a_guest_that_goes_off_while_it_is_asked_to_has_done_so(power: Power) -> None:
    async def refused(*_: object, **__: object) -> bool:
        raise Conflict("domain is not running", subject=INSTANCE)

    async def read(_: InstanceId) -> Any:
        return SimpleNamespace(power=power)

    driver: Any = LibvirtHypervisor.__new__(LibvirtHypervisor)
    driver._link = SimpleNamespace(slow=SimpleNamespace(call=refused))
    driver.domain = read
    if power is Power.STOPPED:
        assert not await driver._press_button(INSTANCE)
    else:
        with pytest.raises(Conflict):
            await driver._press_button(INSTANCE)
