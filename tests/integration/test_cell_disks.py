"""Volumes made by the real `qemu-img`, and images that must not be cloned."""

import json
import subprocess
from pathlib import Path

import pytest
from blake3 import blake3

from nano.model.errors import Internal, Invalid
from nano.model.image import Content
from services.cell.disks import Base, Disks
from services.cell.qemu_img import QemuImages
from tests.support.cell import IMAGE, INSTANCE, HeldImages
from tests.support.hypervisor import MIB

pytestmark = pytest.mark.hypervisor


def qemu_img(*arguments: str) -> str:
    return subprocess.run(["qemu-img", *arguments], check=True, capture_output=True, text=True).stdout


def info(volume: Path) -> dict[str, object]:
    return dict(json.loads(qemu_img("info", "--output=json", str(volume))))


def image_of(file: Path, form: str, virtual_bytes: int) -> tuple[HeldImages, Base]:
    body = file.read_bytes()
    content = Content(1, len(body), blake3(body).hexdigest(), "0" * 40, form, virtual_bytes)
    return HeldImages({IMAGE: body}), Base(IMAGE, content)


async def make(folder: Path, images: HeldImages, base: Base | None, *sizes_bytes: int) -> tuple[Path, ...]:
    disks = Disks(folder / "storage", QemuImages(), images)
    return await disks.create(INSTANCE, sizes_bytes, base, used_bases=set, progress=lambda _: None)


@pytest.mark.parametrize("form", ["qcow2", "raw"])
async def test_a_clone_grows_over_its_base_and_data_disks_are_blank(tmp_path: Path, form: str) -> None:
    source = tmp_path / "source"
    qemu_img("create", "-q", "-f", form, str(source), str(4 * MIB))
    images, base = image_of(source, form, 4 * MIB)
    system, data = await make(tmp_path, images, base, 16 * MIB, 8 * MIB)
    seen = info(system)
    assert (seen["virtual-size"], seen["backing-filename-format"]) == (16 * MIB, form)
    assert seen["backing-filename"] == str(tmp_path / "storage" / "bases" / f"{base.content.blake3}.{form}")
    assert qemu_img("check", "-q", str(system)) == ""
    assert (info(data)["virtual-size"], info(data).get("backing-filename")) == (8 * MIB, None)


async def test_an_image_with_a_backing_file_would_show_this_host_to_its_guest(tmp_path: Path) -> None:
    secret, evil = tmp_path / "secret", tmp_path / "evil.qcow2"
    secret.write_bytes(b"root:x:0:0" + bytes(4 * MIB - 10))
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(secret), str(evil))
    images, base = image_of(evil, "qcow2", 4 * MIB)
    with pytest.raises(Invalid, match="refers to another file") as caught:
        await make(tmp_path, images, base, 8 * MIB)
    assert caught.value.field == "image"
    assert list((tmp_path / "storage" / "bases").iterdir()) == []


async def test_an_image_with_a_data_file_is_refused_too(tmp_path: Path) -> None:
    secret, evil = tmp_path / "secret", tmp_path / "evil.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={secret}", str(evil), str(4 * MIB))
    images, base = image_of(evil, "qcow2", 4 * MIB)
    with pytest.raises(Invalid, match="refers to another file"):
        await make(tmp_path, images, base, 8 * MIB)


async def test_an_image_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    qemu_img("create", "-q", "-f", "qcow2", str(source), str(64 * MIB))
    images, base = image_of(source, "qcow2", 4 * MIB)
    with pytest.raises(Invalid, match="shows 67108864 bytes"):
        await make(tmp_path, images, base, 8 * MIB)


async def test_an_image_of_a_format_that_cannot_be_cloned_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"CD001")
    images, base = image_of(source, "iso", 5)
    with pytest.raises(Invalid, match="iso"):
        await make(tmp_path, images, base, 8 * MIB)


async def test_bytes_that_are_no_qcow2_are_an_error_in_qemus_own_words(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"nothing of the kind")
    images, base = image_of(source, "qcow2", 4 * MIB)
    with pytest.raises(Internal, match="qcow2"):
        await make(tmp_path, images, base, 8 * MIB)
    assert list((tmp_path / "storage" / "volumes").iterdir()) == []


@pytest.mark.parametrize(
    "name", sorted(file.stem for file in Path("tests/unit/services/cell/golden").glob("*.xml"))
)
def test_every_definition_is_valid_by_libvirts_own_schema(name: str) -> None:
    file = Path("tests/unit/services/cell/golden") / f"{name}.xml"
    subprocess.run(["virsh", "-q", "-c", "test:///default", "define", "--validate", str(file)], check=True)
