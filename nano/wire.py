"""Between the words (`nano.model`) and the contracts (`nano.contracts`): the one border they cross.

A noun and its contract carry the same field names, so the crossing is one rule for each kind of value and not
two functions for each noun: enumerations and addresses travel as text, absence as an empty text or an unset
message, sequences as lists. A test walks `NOUNS` and fails where the names of a pair differ.

`decode` makes a message of foreign bytes and looks at what the decoder let through: betterproto2 accepts an
integer where a text belongs and numbers outside the range of their type (transport facts, section 8). The
fabric calls it on each message that comes in; `incoming` then refuses what the types cannot say.
"""

import dataclasses
import operator
import struct
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Any, NamedTuple, TypeVar, Union

import betterproto2
import msgspec

from nano import usage_rows
from nano.contracts.nano import v1
from nano.model import action, address, image, instance, membership, pool, task, template
from nano.model.errors import Corrupt, Invalid
from nano.model.task import Fault

T = TypeVar("T")
M = TypeVar("M", bound=betterproto2.Message)

NOUNS: dict[type, type[betterproto2.Message]] = {
    address.AddressPool: v1.AddressPool,
    address.Binding: v1.Binding,
    address.Lease: v1.Lease,
    address.Range: v1.Range,
    image.Content: v1.Content,
    image.Image: v1.Image,
    instance.Instance: v1.Instance,
    instance.InstanceSpec: v1.InstanceSpec,
    instance.InstanceStatus: v1.InstanceStatus,
    instance.Quality: v1.Quality,
    membership.Applicant: v1.Applicant,
    membership.AuthorityState: v1.AuthorityState,
    membership.Member: v1.ZoneMember,
    membership.Removal: v1.Removal,
    membership.ShownToken: v1.JoinToken,
    pool.Capabilities: v1.Capabilities,
    pool.Cell: v1.Cell,
    pool.Policy: v1.Policy,
    pool.Pool: v1.Pool,
    task.Task: v1.Task,
    template.Devices: v1.Devices,
    template.Template: v1.Template,
    action.LeaseAddress: v1.LeaseAddress,
    action.ReleaseAddress: v1.ReleaseAddress,
    action.PinImage: v1.PinImage,
    action.CreateVolumes: v1.CreateVolumes,
    action.BuildInstance: v1.BuildInstance,
    action.StartInstance: v1.StartInstance,
    action.StopInstance: v1.StopInstance,
    action.DeleteInstance: v1.DeleteInstance,
    action.Nothing: v1.Nothing,
    action.Leased: v1.Leased,
    action.Pinned: v1.Pinned,
    action.Reported: v1.Reported,
}
"""Each noun and the contract that carries it."""

ACTIONS: dict[str, type[action.Action]] = {
    typing.cast("str", kind.__struct_config__.tag): kind for kind in typing.get_args(action.AnyAction)
}
RESULTS: dict[str, type[action.Result]] = {
    typing.cast("str", kind.__struct_config__.tag): kind for kind in typing.get_args(action.AnyResult)
}


# ------------------------------------------------------------------ what comes in


def decode(contract: type[M], data: bytes) -> M:
    """The message that the bytes are; Corrupt when they are none, Invalid when a field is not of its type."""
    try:
        message = contract.parse(data)
    except _UNDECODABLE as error:
        raise Corrupt(f"these {len(data)} bytes are no {contract.__name__}: {error!r:.80}") from error
    return checked(message)


_UNDECODABLE = (EOFError, ValueError, OverflowError, LookupError, TypeError, struct.error, RecursionError)
"""All that betterproto2's decoder raises on garbage: it does not wrap what fails inside it."""


def checked(message: M, path: str = "") -> M:
    """The message itself when each field holds what its contract says; else Invalid names the field."""
    metadata: betterproto2.ProtoClassMetadata = message._betterproto  # type: ignore[arg-type]
    for name, meta in metadata.meta_by_field_name.items():
        value = getattr(message, name)
        if value is None and (meta.optional or meta.group or meta.proto_type == betterproto2.TYPE_MESSAGE):
            continue
        where = f"{path}{name}"
        for index, item in enumerate(value) if meta.repeated else ((-1, value),):
            _check(item, meta.proto_type, where if index < 0 else f"{where}[{index}]")
    return message


def _check(value: object, proto_type: str, where: str) -> None:
    if isinstance(value, betterproto2.Message):
        checked(value, f"{where}.")
        return
    rule = _SCALARS.get(proto_type)
    if rule is None or not rule(value):
        raise Invalid(where, f"{where} is not a {proto_type}: {value!r:.80}")


def _integer(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and low <= value <= high


_SCALARS: dict[str, Callable[[object], bool]] = {
    betterproto2.TYPE_STRING: lambda value: type(value) is str,
    betterproto2.TYPE_BYTES: lambda value: type(value) is bytes,
    betterproto2.TYPE_BOOL: lambda value: type(value) is bool,
    betterproto2.TYPE_FLOAT: lambda value: type(value) is float and value == value,  # noqa: PLR0124 - no NaN
    betterproto2.TYPE_DOUBLE: lambda value: type(value) is float and value == value,  # noqa: PLR0124 - no NaN
    betterproto2.TYPE_UINT32: _integer(0, 2**32 - 1),
    betterproto2.TYPE_UINT64: _integer(0, 2**64 - 1),
    betterproto2.TYPE_INT32: _integer(-(2**31), 2**31 - 1),
    betterproto2.TYPE_INT64: _integer(-(2**63), 2**63 - 1),
}


def incoming(message: betterproto2.Message | None, kind: type[T], path: str = "") -> T:
    """The noun that a checked message carries; Invalid names the field that cannot be meant."""
    if message is None:
        raise Invalid(path.rstrip("."), f"{path.rstrip('.') or kind.__name__} is missing")
    values = {}
    for member in _members(kind):
        found = getattr(message, member.name)
        values[member.name] = _inward(found, member, f"{path}{member.name}")
    return kind(**values)


def _inward(value: Any, member: "_Member", where: str) -> Any:
    if member.many:
        return tuple(_inward_one(item, member, f"{where}[{index}]") for index, item in enumerate(value))
    absent = value is None or (value == "" and not member.blank)
    if not absent:
        return _inward_one(value, member, where)
    if member.optional:
        return None
    if member.default is not _NO_DEFAULT:
        return member.default()
    raise Invalid(where, f"{where} is missing")


def _inward_one(value: Any, member: "_Member", where: str) -> Any:
    kind = member.kind
    if kind in NOUNS:
        return incoming(value, kind, f"{where}.")
    if kind is Fault:
        return fault(value)
    if issubclass(kind, StrEnum):
        try:
            return kind(value)
        except ValueError:
            known = ", ".join(repr(str(one)) for one in kind)
            raise Invalid(where, f"{where} {value!r:.80} is unknown: give one of {known}") from None
    if kind is IPv4Address:
        try:
            return IPv4Address(value)
        except ValueError:
            raise Invalid(where, f"{where} {value!r:.80} is not an IPv4 address") from None
    return value


# ------------------------------------------------------------------ what goes out


def outgoing(noun: object) -> Any:
    """The contract that carries this noun."""
    kind = type(noun)
    return NOUNS[kind](
        **{member.name: _outward(getattr(noun, member.name), member) for member in _members(kind)}
    )


def _outward(value: Any, member: "_Member") -> Any:
    if member.many:
        return [_outward_one(item) for item in value]
    if value is None:
        return None if member.kind in NOUNS or member.kind is Fault else ""
    return _outward_one(value)


def _outward_one(value: Any) -> Any:
    if type(value) in NOUNS:
        return outgoing(value)
    if isinstance(value, Fault):
        return v1.Fault(code=value.code, message=value.message, field=value.field, subject=value.subject)
    if isinstance(value, (StrEnum, IPv4Address)):
        return str(value)
    return value


# ------------------------------------------------------------------ how a noun is made


_NO_DEFAULT: Any = object()


class _Member(NamedTuple):
    name: str
    kind: type
    many: bool
    optional: bool
    blank: bool
    """An empty text is a value of it, not its absence."""
    default: Callable[[], Any]


_MEMBERS: dict[type, tuple[_Member, ...]] = {}


def _members(kind: type) -> tuple[_Member, ...]:
    found = _MEMBERS.get(kind)
    if found is None:
        hints = typing.get_type_hints(kind)
        if issubclass(kind, msgspec.Struct):
            given = {field.name: _struct_default(field) for field in msgspec.structs.fields(kind)}
        else:
            given = {field.name: _dataclass_default(field) for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
        found = _MEMBERS[kind] = tuple(_member(name, hints[name], value) for name, value in given.items())
    return found


def _member(name: str, hint: Any, default: Callable[[], Any]) -> _Member:
    arguments = typing.get_args(hint)
    optional = isinstance(hint, types.UnionType) or typing.get_origin(hint) is Union
    many = typing.get_origin(hint) is tuple
    base = arguments[0] if optional or many else hint
    kind = base
    while hasattr(kind, "__supertype__"):  # a NewType is what it was made of
        kind = kind.__supertype__
    blank = (base is str and not optional) or (issubclass(kind, StrEnum) and "" in list(kind))
    return _Member(name, kind, many, optional, blank, default)


def _struct_default(field: Any) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return lambda: field.default
    return _NO_DEFAULT if field.default_factory is msgspec.NODEFAULT else field.default_factory


def _dataclass_default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return lambda: field.default
    return _NO_DEFAULT if field.default_factory is dataclasses.MISSING else field.default_factory


# ------------------------------------------------------------------ what is not one to one


def fault(message: v1.Fault) -> Fault:
    return Fault(message.code, message.message, message.field, message.subject)


def begin_request(task_id: str, step: str, asked: action.Action, deadline_ms: int = 0) -> v1.BeginRequest:
    carried = {str(type(asked).__struct_config__.tag): outgoing(asked)}
    return v1.BeginRequest(task=task_id, step=step, deadline_ms=deadline_ms, **carried)


def _one_of(message: betterproto2.Message, group: str) -> tuple[str, typing.Any]:
    """Which member of a `oneof` is set, and its value: the decoder keeps several if a peer sends several."""
    try:
        return betterproto2.which_one_of(message, group)
    except RuntimeError as error:
        raise Invalid(group, f"{group} is set more than once: {error}") from error


def asked_action(request: v1.BeginRequest) -> action.AnyAction:
    name, message = _one_of(request, "action")
    kind = ACTIONS.get(name)
    if kind is None:
        raise Invalid("action", "action is missing: this callee knows none of that kind")
    return typing.cast("action.AnyAction", incoming(message, kind, f"{name}."))


def outcome(message: v1.Outcome) -> action.Outcome:
    name, carried = _one_of(message, "result")
    return action.Outcome(
        task=message.task,
        step=message.step,
        progress=_inward_one(message.progress, _PROGRESS, "progress"),
        percent=message.percent,
        result=typing.cast("action.AnyResult", incoming(carried, RESULTS[name], f"{name}."))
        if name
        else None,
        fault=fault(message.fault) if message.fault is not None else None,
    )


def outcome_message(known: action.Outcome) -> v1.Outcome:
    message = v1.Outcome(
        task=known.task, step=known.step, progress=str(known.progress), percent=known.percent
    )
    if known.result is not None:
        setattr(message, str(type(known.result).__struct_config__.tag), outgoing(known.result))
    if known.fault is not None:
        message.fault = _outward_one(known.fault)
    return message


_PROGRESS = _Member("progress", action.Progress, False, False, False, _NO_DEFAULT)


def usages(message: v1.Usages) -> list[pool.Usage]:
    """Samples out of their rows; Invalid when there is not one for each subject."""
    return _usages(message.at_ms, message.subjects, message.rows)


def sampled(datagram: bytes) -> list[pool.Usage]:
    """The same out of what a cell sent, without the general decoder; Corrupt when it is no `Usages`."""
    try:
        found = usage_rows.read(datagram)
    except ValueError as error:
        raise Corrupt(f"these {len(datagram)} bytes are no Usages: {error}") from error
    return _usages(*found)


def _usages(at_ms: int, subjects: list[str], data: bytes) -> list[pool.Usage]:
    try:
        rows = usage_rows.unpack(data)
    except ValueError as error:
        raise Invalid("rows", str(error)) from error
    if len(rows) != len(subjects):
        raise Invalid("rows", f"there are {len(rows)} of them for {len(subjects)} subjects")
    return [pool.Usage(subject, at_ms, *row) for subject, row in zip(subjects, rows, strict=True)]


def usages_message(samples: list[pool.Usage]) -> v1.Usages:
    """Samples of one moment, in rows."""
    return v1.Usages(
        at_ms=samples[0].at_ms if samples else 0,
        subjects=[sample.subject for sample in samples],
        rows=usage_rows.pack(map(_columns, samples)),
    )


_columns = operator.attrgetter(
    *(field.name for field in dataclasses.fields(pool.Usage) if field.name not in {"subject", "at_ms"})
)
