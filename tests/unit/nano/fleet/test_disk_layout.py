import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.fleet.disk_layout import Entry, Partition, master_boot_record, newc_archive

NAMES = st.lists(st.text("abcdefgh.-_", min_size=1, max_size=20), unique=True, max_size=8)


def test_boot_record_is_one_sector_that_a_bios_takes() -> None:
    record = master_boot_record(b"\xeb\x5a", [Partition(0x06, 2048, 1 << 20, bootable=True)], 0x4E414E4F)
    assert len(record) == 512
    assert record[:2] == b"\xeb\x5a"
    assert record[-2:] == b"\x55\xaa"
    assert struct.unpack_from("<I", record, 440) == (0x4E414E4F,)


def test_boot_record_says_where_each_partition_is() -> None:
    record = master_boot_record(
        b"", [Partition(0x06, 2048, 1 << 20, bootable=True), Partition(0x83, 4096, 1 << 21)], 1
    )
    first, second = (struct.unpack_from("<B3xB3xII", record, 446 + 16 * index) for index in range(2))
    assert first == (0x80, 0x06, 2048, 2048)
    assert second == (0, 0x83, 4096, 4096)


def test_boot_record_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="four partitions"):
        master_boot_record(b"", [Partition(0x83, 2048, 512)] * 5, 1)
    with pytest.raises(ValueError, match="440 bytes"):
        master_boot_record(bytes(441), [], 1)


def read_newc(archive: bytes) -> dict[str, bytes]:
    """The archive by the kernel's own description of it, written without a look at our writer."""
    found: dict[str, bytes] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * index : at + 14 + 8 * index], 16) for index in range(13)]
        size_bytes, name_bytes = fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_bytes - 1].decode()
        content = (at + 110 + name_bytes + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = archive[content : content + size_bytes]
        at = (content + size_bytes + 3) // 4 * 4


@given(NAMES, st.binary(max_size=100))
def test_archive_holds_what_was_put_in(names: list[str], content: bytes) -> None:
    entries = [Entry(name, 0o100644, content + name.encode()) for name in names]
    assert read_newc(newc_archive(entries)) == {name: content + name.encode() for name in names}


def test_same_entries_give_the_same_archive() -> None:
    entries = [Entry("bin", 0o040755), Entry("bin/sh", 0o100755, b"#!")]
    assert newc_archive(entries) == newc_archive(entries)
    assert len(newc_archive(entries)) % 4 == 0
