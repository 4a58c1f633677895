import os
from pathlib import Path

import pytest

from nano.model.errors import Busy
from nano.shelf.files import RealDisk


def test_reserved_room_does_not_make_a_file_longer(tmp_path: Path) -> None:
    disk = RealDisk()
    file = disk.create(tmp_path / "a")
    file.reserve(2**20)
    file.write_at(0, b"abc")
    file.sync()
    file.close()
    found = (tmp_path / "a").stat()
    assert found.st_size == 3
    assert found.st_blocks * 512 >= 2**20


def test_a_new_file_never_takes_the_place_of_another(tmp_path: Path) -> None:
    disk = RealDisk()
    disk.create(tmp_path / "a").close()
    with pytest.raises(FileExistsError):
        disk.create(tmp_path / "a")


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    disk = RealDisk()
    disk.make_folder(tmp_path / "deep" / "er")
    disk.create(tmp_path / "deep" / "er" / "a").close()
    assert (tmp_path / "deep").stat().st_mode & 0o077 == 0
    assert (tmp_path / "deep" / "er" / "a").stat().st_mode & 0o077 == 0
    assert disk.names(tmp_path) == []
    assert disk.names(tmp_path / "deep" / "er") == ["a"]


def test_a_lock_is_held_once_and_names_its_holder(tmp_path: Path) -> None:
    disk = RealDisk()
    lock = disk.lock(tmp_path / "shelf.lock")
    with pytest.raises(Busy, match=f"{tmp_path} is open in process {os.getpid()}: stop that one first"):
        disk.lock(tmp_path / "shelf.lock")
    lock.close()
    disk.lock(tmp_path / "shelf.lock").close()
