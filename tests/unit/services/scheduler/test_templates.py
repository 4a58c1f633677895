"""The templates of a fresh zone."""

import re

from nano.model.template import DiskBus, NetworkModel
from services.scheduler.templates import defaults, template_id


def test_the_documented_five_are_there_and_one_for_virtio() -> None:
    names = [template.name for template in defaults(0)]
    assert names == [
        "Linux (virtio)",
        "CentOS 7",
        "CentOS 6",
        "Windows Server 2012",
        "General",
        "Legacy",
    ]


def test_ids_are_twenty_characters_of_base32hex_and_the_same_in_every_zone() -> None:
    ids = [template.id for template in defaults(1)]
    assert all(re.fullmatch("[0-9a-v]{20}", one) for one in ids)
    assert len(set(ids)) == len(ids)
    assert ids == [template_id(template.name) for template in defaults(2)]


def test_devices_are_those_of_the_document() -> None:
    by_name = {template.name: template.devices for template in defaults(0)}
    assert by_name["Windows Server 2012"].network is NetworkModel.E1000
    assert by_name["Legacy"].disk is DiskBus.IDE
    assert by_name["Linux (virtio)"].disk is DiskBus.SCSI
