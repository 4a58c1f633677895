"""Bytes of a disk, made without a disk: the table of partitions and the archive that Linux boots from."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

SECTOR_BYTES = 512
_BOOTABLE = 0x80
_NO_CYLINDERS = b"\xfe\xff\xff"
"""The cylinder address that says "see the sector numbers", which every BIOS since 1996 reads instead."""


@dataclass(frozen=True, slots=True)
class Partition:
    """`kind` is the MBR's type byte: 0x06 FAT16, 0x83 Linux."""

    kind: int
    start_sector: int
    size_bytes: int
    bootable: bool = False


def master_boot_record(boot_code: bytes, partitions: Iterable[Partition], disk_signature: int) -> bytes:
    """The first sector of a disk: at most 440 bytes of boot code, the signature, up to four partitions."""
    entries = b"".join(_partition_entry(partition) for partition in partitions)
    if len(boot_code) > 440 or len(entries) > 64:
        raise ValueError("an MBR holds 440 bytes of boot code and four partitions")
    return (
        boot_code.ljust(440, b"\0")
        + struct.pack("<IH", disk_signature, 0)
        + entries.ljust(64, b"\0")
        + b"\x55\xaa"
    )


def _partition_entry(partition: Partition) -> bytes:
    return struct.pack(
        "<B3sB3sII",
        _BOOTABLE if partition.bootable else 0,
        _NO_CYLINDERS,
        partition.kind,
        _NO_CYLINDERS,
        partition.start_sector,
        partition.size_bytes // SECTOR_BYTES,
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder (mode 0o040…) or a file (0o100…) of an archive; `path` has no leading slash."""

    path: str
    mode: int
    content: bytes = b""


def newc_archive(entries: Iterable[Entry]) -> bytes:
    """An initramfs as the kernel reads it (buffer-format.rst, "newc"): owned by root, without times.

    Folders must come before what is in them. The same entries give the same bytes.
    """
    numbered = enumerate([*entries, Entry("TRAILER!!!", 0)], start=1)
    return b"".join(_newc_entry(number, entry) for number, entry in numbered)


def _newc_entry(number: int, entry: Entry) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if entry.mode & 0o040000 else 1
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _to_four(header + name) + _to_four(entry.content)


def _to_four(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
