"""The border between words and contracts."""

import contextlib
import dataclasses
import typing
from ipaddress import IPv4Address

import betterproto2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano import wire
from nano.contracts.nano import v1
from nano.model import action, instance, pool, task
from nano.model.errors import Corrupt, Invalid
from nano.model.ids import AddressPoolName, ImageId, InstanceId, PoolName, TaskId
from nano.usage_rows import ROW_BYTES
from tests.support import nouns
from tests.support.nouns import BINDING, CELL

SPEC = dataclasses.replace(nouns.SPEC, image=ImageId("img"), modules=("qemu",))
INSTANCE = dataclasses.replace(nouns.INSTANCE, binding=BINDING, wanted=instance.Wanted.RUNNING)


def test_each_noun_and_its_contract_carry_the_same_names() -> None:
    for noun, contract in wire.NOUNS.items():
        ours = (
            {field.name for field in msgspec.structs.fields(noun)}
            if issubclass(noun, msgspec.Struct)
            else {field.name for field in dataclasses.fields(noun)}  # type: ignore[arg-type]
        )
        theirs = {field.name for field in dataclasses.fields(contract)}  # type: ignore[arg-type]
        assert ours == theirs, noun


@pytest.mark.parametrize(
    "noun",
    [
        BINDING,
        SPEC,
        INSTANCE,
        dataclasses.replace(INSTANCE, binding=None, task=TaskId("t")),
        pool.Pool(PoolName("default")),
        CELL,
        dataclasses.replace(CELL, pool=None, capabilities=None),
        nouns.IMAGE,
        task.Task(
            id=TaskId("t"),
            kind="create_instance",
            subject="i",
            state=task.TaskState.FAILED,
            step="lease_address",
            step_index=1,
            step_count=6,
            progress_percent=20,
            cancellable=False,
            created_ms=1,
            error=task.Fault("no_address", "none left", "pool", "local"),
        ),
        instance.InstanceStatus(
            InstanceId("i"), 1, 7, instance.Power.RUNNING, addresses=(IPv4Address("10.0.0.1"),)
        ),
    ],
    ids=lambda noun: type(noun).__name__,
)
def test_a_noun_comes_back_as_it_went_out(noun: object) -> None:
    contract = wire.NOUNS[type(noun)]
    message = wire.checked(contract.parse(bytes(wire.outgoing(noun))))
    assert wire.incoming(message, type(noun)) == noun


@pytest.mark.parametrize(
    "asked",
    [
        action.LeaseAddress(AddressPoolName("local"), "i/0", InstanceId("i")),
        action.BuildInstance(InstanceId("i"), 1, SPEC, "00:16:3e:00:00:01", None),
        action.StopInstance(InstanceId("i"), 1, action.StopMode.RESET),
    ],
)
def test_an_action_comes_back_as_it_was_asked(asked: action.AnyAction) -> None:
    sent = bytes(wire.begin_request("task", "step", asked))
    assert wire.asked_action(wire.checked(v1.BeginRequest.parse(sent))) == asked


@pytest.mark.parametrize(
    "known",
    [
        action.Outcome("t", "s", action.Progress.DONE, 100, action.Leased(BINDING)),
        action.Outcome("t", "s", action.Progress.DONE, result=action.Nothing()),
        action.Outcome("t", "s", action.Progress.FAILED, fault=task.Fault("conflict", "no", "a", "b")),
        action.Outcome("t", "s", action.Progress.UNKNOWN),
    ],
)
def test_an_outcome_comes_back_as_it_was_known(known: action.Outcome) -> None:
    sent = bytes(wire.outcome_message(known))
    assert wire.outcome(wire.checked(v1.Outcome.parse(sent))) == known


def test_samples_come_back_out_of_their_rows() -> None:
    samples = [
        pool.Usage("Cell_1", 5, 12.5, 1, 2, 3, 4, 5, 6, 7, 8),
        pool.Usage("i", 5, 50.0, 2, 3, 4, 5, 6, 7, 8, 9),
    ]
    sent = bytes(wire.usages_message(samples))
    assert wire.usages(v1.Usages.parse(sent)) == wire.sampled(sent) == samples


@pytest.mark.parametrize("rows", [b"", bytes(ROW_BYTES), bytes(ROW_BYTES + 1), bytes(3 * ROW_BYTES)])
def test_samples_without_a_row_for_each_subject_are_refused(rows: bytes) -> None:
    message = v1.Usages(subjects=["a", "b"], rows=rows)
    with pytest.raises(Invalid) as refused:
        wire.usages(message)
    assert refused.value.field == "rows"
    with pytest.raises(Invalid, match=refused.value.message):
        wire.sampled(bytes(message))


def test_what_is_no_sample_is_corrupt() -> None:
    with pytest.raises(Corrupt, match="no Usages"):
        wire.sampled(b"not one at all")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"wanted": "asleep"}, "wanted"),
        ({"spec": None}, "spec"),
        ({"spec": v1.InstanceSpec(devices=None)}, "spec.pool"),
        ({"binding": v1.Binding(owner="o", address="10.0.0.300")}, "binding.address"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_field(change: dict[str, typing.Any], field: str) -> None:
    message = dataclasses.replace(wire.outgoing(INSTANCE), **change)
    with pytest.raises(Invalid) as refused:
        wire.incoming(message, instance.Instance)
    assert refused.value.field == field
    assert field in str(refused.value)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (v1.PoolRef(name=typing.cast("str", 5)), "name"),
        (v1.InstanceSpec(cores=2**32), "cores"),
        (v1.InstanceSpec(memory_bytes=-1), "memory_bytes"),
        (v1.InstanceSpec(disks_bytes=[1, 2**64]), "disks_bytes[1]"),
        (v1.Instance(spec=v1.InstanceSpec(auto_start=typing.cast("bool", 7))), "spec.auto_start"),
        (v1.Policy(cores_weight=float("nan")), "cores_weight"),
    ],
)
def test_what_a_decoder_lets_through_is_refused_by_its_field(
    message: betterproto2.Message, field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        wire.checked(message)
    assert refused.value.field == field


@pytest.mark.parametrize("wire_type", [3, 4, 6, 7])
@pytest.mark.parametrize(
    ("contract", "number", "field"),
    [(v1.Usages, 1, "at_ms"), (v1.Usages, 2, "subjects[0]"), (v1.Pool, 1, "name"), (v1.Pool, 2, "enabled")],
)
def test_a_field_of_a_kind_that_proto_has_no_more_is_refused(
    contract: type[betterproto2.Message], number: int, field: str, wire_type: int
) -> None:
    """Groups and reserved kinds: the decoder sets the field to None."""
    with pytest.raises(Invalid) as refused:
        wire.decode(contract, bytes([number << 3 | wire_type, 7]))
    assert refused.value.field == field


@given(st.binary(max_size=300))
@settings(max_examples=500)
def test_garbage_is_an_error_that_says_so_and_nothing_else(garbage: bytes) -> None:
    with contextlib.suppress(Corrupt, Invalid):
        wire.asked_action(wire.decode(v1.BeginRequest, garbage))


def test_a_message_with_two_members_of_one_oneof_is_refused() -> None:
    two = b"".join(
        bytes(v1.BeginRequest(**{name: getattr(v1, kind)()}))
        for name, kind in (("start_instance", "StartInstance"), ("lease_address", "LeaseAddress"))
    )
    with pytest.raises(Invalid, match="more than once") as caught:
        wire.asked_action(wire.decode(v1.BeginRequest, two))
    assert caught.value.field == "action"
