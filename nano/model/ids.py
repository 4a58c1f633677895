"""A type for each kind of id, so that one is never taken for another."""

import uuid
from typing import NewType

InstanceId = NewType("InstanceId", str)
"""Lower-case UUIDv4 with dashes (REST document, section 3)."""

ImageId = NewType("ImageId", str)
"""Lower-case UUIDv4 with dashes; media and disk images share one space."""

TaskId = NewType("TaskId", str)
"""Lower-case UUIDv4 with dashes."""

CellId = NewType("CellId", str)
"""`Cell_` and the twelve lower-case hex digits of the bridge's MAC (REST document, section 3)."""

PoolName = NewType("PoolName", str)
"""A compute pool is addressed by its name: `A-Z a-z 0-9 _ -`."""

AddressPoolName = NewType("AddressPoolName", str)

TemplateId = NewType("TemplateId", str)
"""Twenty characters of base32hex in lower case (REST document, section 3)."""


def new_instance_id() -> InstanceId:
    return InstanceId(str(uuid.uuid4()))


def new_image_id() -> ImageId:
    return ImageId(str(uuid.uuid4()))


def new_task_id() -> TaskId:
    return TaskId(str(uuid.uuid4()))
