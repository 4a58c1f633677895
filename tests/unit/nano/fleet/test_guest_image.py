import pytest

from nano.fleet.guest_image import module_order, recipe_digest
from nano.fleet.guest_packages import Package, dependencies, libraries, package_versions
from nano.model.errors import Unsupported

MODULES_DEP = """\
kernel/drivers/scsi/virtio_scsi.ko: kernel/drivers/scsi/scsi_mod.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/scsi/scsi_mod.ko:
kernel/drivers/virtio/virtio.ko:
kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/virtio/virtio.ko
kernel/fs/xz.ko.xz:
"""


def test_modules_load_after_what_they_need_and_once() -> None:
    assert module_order(MODULES_DEP, "", ["virtio_scsi", "virtio_rng"]) == [
        "kernel/drivers/virtio/virtio.ko",
        "kernel/drivers/scsi/scsi_mod.ko",
        "kernel/drivers/scsi/virtio_scsi.ko",
        "kernel/drivers/char/hw_random/virtio-rng.ko",
    ]


def test_a_module_inside_the_kernel_is_left_out() -> None:
    assert module_order(MODULES_DEP, "kernel/fs/ext4/ext4.ko\n", ["ext4", "xz"]) == ["kernel/fs/xz.ko.xz"]


def test_a_module_that_the_kernel_lacks_is_named() -> None:
    with pytest.raises(Unsupported, match="e1000"):
        module_order(MODULES_DEP, "", ["e1000"])


def test_digest_follows_sources_and_versions() -> None:
    sources, packages = {"boot": b"one"}, [Package("libc6", "2.36-9"), Package("busybox-static", "1:1.35")]
    digest = recipe_digest(sources, packages)
    assert digest == recipe_digest(dict(sources), packages[::-1])
    assert digest != recipe_digest({"boot": b"two"}, packages)
    assert digest != recipe_digest(sources, [Package("libc6", "2.36-10"), packages[1]])
    assert digest != recipe_digest({"boo": b"tone"}, packages)


def test_only_libraries_come_along_with_the_agent() -> None:
    text = """\
qemu-guest-agent
  Depends: init-system-helpers
  Depends: libc6
 |Depends: libglib2.0-0
init-system-helpers
  Depends: perl-base
libglib2.0-0
  Depends: libpcre2-8-0
libc6
libpcre2-8-0
"""
    assert libraries(dependencies(text), "qemu-guest-agent") == ["libc6", "libglib2.0-0", "libpcre2-8-0"]


def test_versions_are_read_from_stanzas() -> None:
    shown = (
        "Package: a\nVersion: 1:2-3\nDescription: words\n more: words\n\nPackage: b\nSource: x\nVersion: 4\n"
    )
    assert package_versions(shown) == {"a": "1:2-3", "b": "4"}


def test_apt_escapes_the_colon_of_an_epoch_in_file_names() -> None:
    assert Package("busybox-static", "1:1.35.0-4").file_pattern == "busybox-static_1%3a1.35.0-4_*.deb"
