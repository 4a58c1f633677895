"""What a step asks of another service, and what comes back.

An action is begun, not waited for (design, section 5): `Begin(task, step, action)` is answered durably, its
outcome follows. Each is safe to repeat: the callee knows it by task and step, and by the owner it names.
"""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from nano.model.address import Binding
from nano.model.ids import AddressPoolName, CellId, ImageId, InstanceId
from nano.model.image import Content, ImageKind
from nano.model.instance import InstanceSpec, InstanceStatus
from nano.model.task import Fault


class Action(msgspec.Struct, frozen=True, tag_field="action"):
    """One move on another service's book."""


class LeaseAddress(Action, frozen=True, tag="lease_address"):
    """addresspool: give `owner` its address; asking twice gives the same one. Undone by releasing it."""

    pool: AddressPoolName
    owner: str
    instance: InstanceId


class ReleaseAddress(Action, frozen=True, tag="release_address"):
    """addresspool: take back what the instance holds; nothing held is success. Cannot be undone."""

    instance: InstanceId


class PinImage(Action, frozen=True, tag="pin_image"):
    """imagestore: keep this image's present content until the task has ended or the step is undone.

    Until then `reader` may fetch it, and no other cell.
    """

    image: ImageId
    kind: ImageKind
    reader: CellId = CellId("")


class CreateVolumes(Action, frozen=True, tag="create_volumes"):
    """cell: make the instance's disks, the first from `content` of `image` if given. Undone by removal."""

    instance: InstanceId
    epoch: int
    spec: InstanceSpec
    image: ImageId | None
    content: Content | None


class BuildInstance(Action, frozen=True, tag="build_instance"):
    """cell: record the instance and define its domain, stopped. Undone by undefining and forgetting it."""

    instance: InstanceId
    epoch: int
    spec: InstanceSpec
    mac: str
    binding: Binding | None


class StartInstance(Action, frozen=True, tag="start_instance"):
    """cell: switch it on; running already is success. Undone by nothing: a start that fails leaves it off."""

    instance: InstanceId
    epoch: int
    binding: Binding | None


class StopMode(StrEnum):
    """How hard (REST document, section 7, Power)."""

    GRACEFUL = "graceful"
    """Ask the guest; fails after `patience_s` when it does not obey."""
    FORCE = "force"
    REBOOT = "reboot"
    RESET = "reset"


class StopInstance(Action, frozen=True, tag="stop_instance"):
    """cell: switch it off, or restart it; off already is success for the first two modes.

    Undone by giving up: a guest that has obeyed by then stays off, and is reported so.
    """

    instance: InstanceId
    epoch: int
    mode: StopMode
    patience_s: float = 60.0


class DeleteInstance(Action, frozen=True, tag="delete_instance"):
    """cell: remove domain, volumes and record; nothing there is success. Cannot be undone."""

    instance: InstanceId
    epoch: int


AnyAction = (
    LeaseAddress
    | ReleaseAddress
    | PinImage
    | CreateVolumes
    | BuildInstance
    | StartInstance
    | StopInstance
    | DeleteInstance
)


class Result(msgspec.Struct, frozen=True, tag_field="result"):
    """What a step that went well brings back."""


class Nothing(Result, frozen=True, tag="nothing"):
    """It is done, and there is nothing more to say."""


class Leased(Result, frozen=True, tag="leased"):
    binding: Binding


class Pinned(Result, frozen=True, tag="pinned"):
    content: Content


class Reported(Result, frozen=True, tag="reported"):
    """The instance's status as the action left it, so that nobody believes it later than the caller."""

    status: InstanceStatus


AnyResult = Nothing | Leased | Pinned | Reported


class Progress(StrEnum):
    """How far a begun step is."""

    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"
    UNDOING = "undoing"
    UNDONE = "undone"
    """Also the tombstone of a step that was undone before it was ever seen."""
    UNKNOWN = "unknown"
    """The callee has never heard of it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a callee says of one step of one task."""

    task: str
    step: str
    progress: Progress
    percent: int = 0
    """Measured share of the work, 0 to 100; not kept over a restart."""
    result: AnyResult | None = None
    """With DONE."""
    fault: Fault | None = None
    """With FAILED, and with UNDOING when the undo was tried and did not succeed yet."""
