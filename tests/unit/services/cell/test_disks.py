"""Volumes and bases as files: whole or not there, verified, and never evicted while something needs them."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from nano.model.errors import Corrupt, Invalid, NanoError, StorageFull, Unreachable
from nano.model.ids import ImageId, InstanceId
from services.cell import disks as disks_module
from services.cell import download
from services.cell.disks import Base, Disks, shared_by
from services.cell.host import base_name
from services.cell.sim_volumes import SimVolumes
from tests.support.cell import CONTENT, IMAGE, INSTANCE, SYSTEM, HeldImages, content_of
from tests.support.hypervisor import MIB

CLONE = Base(IMAGE, CONTENT)
OTHER = InstanceId("0f8fad5b-d9cb-469f-a165-70867728950e")


def nothing_used() -> set[str]:
    return set()


async def make(
    disks: Disks,
    instance: InstanceId = INSTANCE,
    sizes_bytes: tuple[int, ...] = (8 * MIB,),
    base: Base | None = CLONE,
    *,
    used: Callable[[], set[str]] = nothing_used,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[Path, ...]:
    return await disks.create(instance, sizes_bytes, base, used_bases=used, progress=progress)


@pytest.fixture
def images() -> HeldImages:
    return HeldImages({IMAGE: SYSTEM})


@pytest.fixture
def disks(tmp_path: Path, images: HeldImages) -> Disks:
    return Disks(tmp_path, SimVolumes(), images)


async def test_a_clone_lies_on_the_verified_base(disks: Disks, tmp_path: Path) -> None:
    (volume,) = await make(disks)
    base = tmp_path / "bases" / base_name(CONTENT)
    assert base.read_bytes() == SYSTEM
    assert str(base) in volume.read_text()


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777


async def test_libvirt_hands_over_what_only_the_cell_can_open(disks: Disks, tmp_path: Path) -> None:
    (volume,) = await make(disks)
    assert mode_of(volume) == mode_of(tmp_path / "bases" / base_name(CONTENT)) == 0o600
    assert mode_of(volume.parent) == mode_of(volume.parents[1]) == mode_of(tmp_path) == 0o711


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is in every group")
async def test_a_group_of_cell_and_qemu_gets_at_volumes_and_only_reads_bases(
    tmp_path: Path, images: HeldImages
) -> None:
    gid = 65534
    (volume,) = await make(Disks(tmp_path, SimVolumes(), images, shared_by(gid)))
    base = tmp_path / "bases" / base_name(CONTENT)
    assert (mode_of(volume), mode_of(base)) == (0o660, 0o640)
    folders = (volume.parent, volume.parents[1], base.parent, tmp_path)
    assert {mode_of(each) for each in folders} == {0o710}
    assert {each.stat().st_gid for each in (volume, base, *folders)} == {gid}


async def test_progress_is_measured_and_ends_at_a_hundred(disks: Disks) -> None:
    seen: list[int] = []
    await make(disks, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 100
    assert 0 < seen[0] < 50


async def test_making_again_keeps_what_is_there(disks: Disks, images: HeldImages) -> None:
    (volume,) = await make(disks)
    volume.write_text("written by the guest")
    assert await make(disks) == (volume,)
    assert volume.read_text() == "written by the guest"
    assert images.asked == [0]


async def test_two_clones_of_one_image_fetch_it_once(disks: Disks, images: HeldImages) -> None:
    await asyncio.gather(make(disks), make(disks, OTHER))
    assert images.asked == [0]
    assert disks.instances() == {INSTANCE, OTHER}


async def test_a_disk_smaller_than_its_image_is_refused_before_anything_is_fetched(
    disks: Disks, images: HeldImages
) -> None:
    with pytest.raises(Invalid) as caught:
        await make(disks, sizes_bytes=(CONTENT.virtual_bytes - 1,))
    assert (caught.value.field, caught.value.subject) == ("disks", INSTANCE)
    assert images.asked == []


async def test_an_instance_without_a_disk_is_refused(disks: Disks) -> None:
    with pytest.raises(Invalid) as caught:
        await make(disks, sizes_bytes=(), base=None)
    assert caught.value.field == "disks"


async def test_bytes_that_are_not_the_image_are_thrown_away(tmp_path: Path) -> None:
    liar = HeldImages({IMAGE: SYSTEM[:-1] + b"\0"})
    disks = Disks(tmp_path, SimVolumes(), liar)
    with pytest.raises(Corrupt) as caught:
        await make(disks)
    assert caught.value.subject == IMAGE
    assert list((tmp_path / "bases").iterdir()) == []
    assert not disks.whole(INSTANCE)


async def test_more_bytes_than_announced_are_refused(tmp_path: Path) -> None:
    disks = Disks(tmp_path, SimVolumes(), HeldImages({IMAGE: SYSTEM + b"more"}))
    with pytest.raises(Corrupt):
        await make(disks)


class BreakingImages(HeldImages):
    """Its links break after some pieces."""

    def __init__(self, body: bytes, pieces: int) -> None:
        super().__init__({IMAGE: body})
        self._pieces = pieces

    async def fetch(self, image: ImageId, version: int, offset: int) -> AsyncIterator[bytes]:
        sent = 0
        async for piece in super().fetch(image, version, offset):
            if sent == self._pieces:
                raise Unreachable("the link broke", subject=image)
            sent += 1
            yield piece


@pytest.mark.looptime
async def test_a_broken_transfer_goes_on_where_it_stopped(tmp_path: Path) -> None:
    breaking = BreakingImages(SYSTEM, 1)
    disks = Disks(tmp_path, SimVolumes(), breaking)
    await make(disks)
    assert breaking.asked == [0, 16_384, 32_768, 49_152]
    assert (tmp_path / "bases" / base_name(CONTENT)).read_bytes() == SYSTEM


@pytest.mark.looptime
async def test_a_store_that_never_answers_is_given_up_with_its_own_words(tmp_path: Path) -> None:
    silent = BreakingImages(SYSTEM, 0)
    disks = Disks(tmp_path, SimVolumes(), silent)
    with pytest.raises(Unreachable, match="the link broke"):
        await make(disks)
    assert len(silent.asked) == download.FRUITLESS_ATTEMPTS
    assert list((tmp_path / "bases").iterdir()) == []


async def test_zeros_of_a_raw_image_take_no_room(tmp_path: Path) -> None:
    body = b"\1" * 4096 + bytes(MIB) + b"\2" * 4096 + bytes(MIB)
    disks = Disks(tmp_path, SimVolumes(), HeldImages({IMAGE: body}, piece_bytes=4096))
    content = content_of(body)
    await make(disks, base=Base(IMAGE, content))
    base = tmp_path / "bases" / base_name(content)
    assert base.read_bytes() == body
    assert base.stat().st_blocks * 512 < MIB


async def test_removal_leaves_nothing_and_may_be_repeated(disks: Disks, tmp_path: Path) -> None:
    await make(disks, sizes_bytes=(8 * MIB, MIB))
    await disks.remove(INSTANCE)
    await disks.remove(INSTANCE)
    assert list((tmp_path / "volumes").iterdir()) == []


async def test_a_creation_that_is_cancelled_leaves_nothing_whole(tmp_path: Path) -> None:
    class Slow(HeldImages):
        async def fetch(self, image: ImageId, version: int, offset: int) -> AsyncIterator[bytes]:
            yield SYSTEM[:100]
            await asyncio.Event().wait()

    disks = Disks(tmp_path, SimVolumes(), Slow({IMAGE: SYSTEM}))
    started = asyncio.Event()
    async with asyncio.TaskGroup() as jobs:
        job = jobs.create_task(make(disks, progress=lambda _: started.set()))
        await started.wait()
        job.cancel()
    assert not disks.whole(INSTANCE)
    assert list((tmp_path / "bases").iterdir()) == []


async def test_what_was_cut_off_is_swept_and_what_is_whole_is_kept(disks: Disks, tmp_path: Path) -> None:
    await make(disks)
    (tmp_path / "volumes" / f"{OTHER}.partial").mkdir()
    (tmp_path / "volumes" / f"{OTHER}.removed").mkdir()
    (tmp_path / "bases" / "0123.qcow2.partial").write_text("half")
    assert await disks.sweep() == ["0123.qcow2.partial", f"{OTHER}.partial", f"{OTHER}.removed"]
    assert disks.instances() == {INSTANCE}
    assert disks.bases() == {base_name(CONTENT)}
    assert await disks.sweep() == []


@pytest.fixture
def full_disk(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system on which the bases themselves fill what is free."""
    monkeypatch.setattr(disks_module, "SPARE_BYTES", 0)

    def free(_: Disks) -> int:
        return len(SYSTEM) * 2 - sum((disks._bases / name).stat().st_size for name in disks.bases())

    monkeypatch.setattr(Disks, "free_bytes", free)


def image(number: int) -> tuple[ImageId, bytes]:
    body = bytes([number]) * len(SYSTEM)
    return ImageId(f"00000000-0000-4000-8000-00000000000{number}"), body


async def test_the_longest_untouched_unused_base_makes_room(
    disks: Disks, images: HeldImages, full_disk: None
) -> None:
    made = []
    for number in (1, 2, 3):
        name, body = image(number)
        images.images[name] = body
        base = Base(name, content_of(body))
        await make(disks, InstanceId(f"00000000-0000-4000-8000-0000000000a{number}"), base=base)
        os.utime(disks._bases / base_name(base.content), (number, number))
        made.append(base_name(base.content))
    assert disks.bases() == set(made[1:])


async def test_a_base_that_something_refers_to_is_never_evicted(
    disks: Disks, images: HeldImages, full_disk: None
) -> None:
    used: set[str] = set()
    for number in (1, 2):
        name, body = image(number)
        images.images[name] = body
        base = Base(name, content_of(body))
        instance = InstanceId(f"00000000-0000-4000-8000-0000000000a{number}")
        await make(disks, instance, base=base, used=lambda: used)
        used.add(base_name(base.content))
    with pytest.raises(StorageFull):
        await make(disks, used=lambda: used)
    assert disks.bases() == used
    assert not disks.whole(INSTANCE)


async def test_a_failure_between_two_volumes_leaves_none(tmp_path: Path, images: HeldImages) -> None:
    class Failing(SimVolumes):
        async def make(self, path: Path, size_bytes: int, backing: object) -> None:
            if path.name == "1.qcow2":
                raise StorageFull("no room")
            await super().make(path, size_bytes, None)

    disks = Disks(tmp_path, Failing(), images)
    with pytest.raises(NanoError):
        await make(disks, sizes_bytes=(8 * MIB, MIB))
    assert not disks.whole(INSTANCE)
    await disks.remove(INSTANCE)
    assert list((tmp_path / "volumes").iterdir()) == []
