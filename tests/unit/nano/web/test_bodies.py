"""JSON bodies are read as documented, and what is wrong in them is named."""

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.model.errors import Invalid
from nano.web.bodies import Count, decode


class Limits(msgspec.Struct, kw_only=True):
    read_speed: Count = 0
    cpu_priority: str


class Order(msgspec.Struct, kw_only=True):
    name: str
    cores: Count = 1
    disks: tuple[Count, ...] = ()
    force: bool = False
    qos: Limits | None = None
    rules: list[Limits] = []


def test_unknown_members_are_ignored_and_names_match_in_any_case() -> None:
    body = b'{"NAME": "a", "Cores": 2, "colour": "red", "QoS": {"Read_Speed": 5, "CPU_PRIORITY": "low"}}'
    assert decode(body, Order) == Order(name="a", cores=2, qos=Limits(read_speed=5, cpu_priority="low"))


def test_names_match_in_any_case_inside_of_lists() -> None:
    body = b'{"name": "a", "rules": [{"cpu_Priority": "high"}]}'
    assert decode(body, Order).rules == [Limits(cpu_priority="high")]


def test_the_exact_name_wins_and_else_the_last_one() -> None:
    assert decode(b'{"name": "exact", "NAME": "other"}', Order).name == "exact"
    assert decode(b'{"Name": "first", "NAME": "last"}', Order).name == "last"


def test_null_is_as_if_the_member_were_missing() -> None:
    assert decode(b'{"name": "a", "cores": null, "qos": null}', Order) == Order(name="a")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"  \n", "body"),
        (b"[]", "body"),
        (b"null", "body"),
        (b'{"name": ', "body"),
        (b'{"name": "a"} {}', "body"),
        (b'{"name": "\xff"}', "body"),
        (b"[" * 100_000, "body"),
        (b"{}", "name"),
        (b'{"name": 1}', "name"),
        (b'{"name": "a", "cores": -1}', "cores"),
        (b'{"name": "a", "cores": 1.5}', "cores"),
        (b'{"name": "a", "cores": "2"}', "cores"),
        (b'{"name": "a", "cores": true}', "cores"),
        (b'{"name": "a", "cores": 18446744073709551616}', "cores"),
        (b'{"name": "a", "disks": [1, -1]}', "disks[1]"),
        (b'{"name": "a", "force": 1}', "force"),
        (b'{"name": "a", "qos": {"cpu_priority": []}}', "qos.cpu_priority"),
        (b'{"name": "a", "qos": {}}', "qos.cpu_priority"),
        (b'{"name": "a", "rules": [{}]}', "rules[0].cpu_priority"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(body: bytes, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        decode(body, Order)
    assert refused.value.field == field
    assert field in refused.value.message


@given(st.binary())
def test_any_bytes_are_an_order_or_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        decode(body, Order)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["name", "QOS"]), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["name", "Cores", "disks", "force", "qos", "RULES", "x"]), _JSON))
def test_any_object_is_an_order_or_refused(document: dict[str, object]) -> None:
    with contextlib.suppress(Invalid):  # all else fails the test
        order = decode(json.dumps(document).encode(), Order)
        assert isinstance(order.name, str)
        assert order.cores >= 0
