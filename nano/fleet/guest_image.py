"""The small bootable guest: Debian's own kernel, busybox and guest agent on a qcow2 disk of some 25 MB.

Made from packages alone: no root, no loop device, no mount. It boots from BIOS on `pc` and `q35` with virtio
disk and card, takes its address by DHCP, answers its agent and heeds the power button. Root's password is
locked. Built once for each recipe and set of package versions; see `built_image`.
"""

import gzip
import hashlib
import lzma
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from nano.fleet.disk_layout import SECTOR_BYTES, Entry, Partition, master_boot_record, newc_archive
from nano.fleet.guest_packages import KERNEL, Package, fetch, guest_packages
from nano.fleet.tools import Progress, run_tool
from nano.model.errors import Unsupported

_MIB = 1024 * 1024
_SCRIPTS = Path(__file__).parent / "guest"
_BOOT_CODE = Path("/usr/lib/syslinux/mbr/mbr.bin")
_MODULES = (
    "virtio_pci", "virtio_scsi", "virtio_blk", "sd_mod", "ext4",
    "virtio_net", "virtio_console", "virtio_balloon", "button", "evdev",
)  # fmt: skip
"""The cloud kernel has no AHCI and no e1000: the guest wants the devices of the template "Linux (virtio)"."""
_PLACES = {
    "inittab": "etc/inittab",
    "boot": "etc/init.d/boot",
    "network": "etc/init.d/network",
    "agent": "etc/init.d/agent",
    "lease": "etc/udhcpc/lease",
    "power-button": "etc/acpi/PWRF/00000080",
    "shutdown": "sbin/shutdown",
}
_TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    # No password, so that whoever sees the screen gets in: there is no other way in, nothing listens.
    "etc/shadow": "root::19000:0:99999:7:::\n",
    "etc/issue": "\nNano's small guest. Log in as root, there is no password.\n\n",
    "etc/group": "root:x:0:\ntty:x:5:\n",
    "etc/hostname": "nano-guest\n",
    "etc/os-release": 'NAME="Nano guest"\nPRETTY_NAME="Nano guest 1"\nID=nano-guest\nVERSION_ID="1"\n',
}
_FOLDERS = ("proc", "sys", "dev", "run", "tmp", "root", "mnt", "sbin", "usr/sbin", "var/log")
_ROOT_BYTES = 64 * _MIB


def module_order(modules_dep: str, builtin: str, wanted: Iterable[str]) -> list[str]:
    """Paths of the wanted modules and all they need, each after its needs; what is built in is left out.

    `modules_dep` and `builtin` are the texts of depmod's `modules.dep` and the kernel's `modules.builtin`.
    """
    needs = {
        path: rest.split() for path, _, rest in (line.partition(":") for line in modules_dep.splitlines())
    }
    by_name = {_module_name(path): path for path in needs}
    inside = {_module_name(path) for path in builtin.split()}
    ordered: list[str] = []
    for name in wanted:
        if name in inside:
            continue
        if name not in by_name:
            raise Unsupported(f"Debian's cloud kernel has no module {name}", subject=KERNEL)
        path = by_name[name]
        ordered += [each for each in [*reversed(needs[path]), path] if each not in ordered]
    return ordered


def _module_name(path: str) -> str:
    return path.rsplit("/", 1)[-1].partition(".ko")[0].replace("-", "_")


def recipe_digest(sources: Mapping[str, bytes], packages: Iterable[Package]) -> str:
    """Sixteen hex digits that change when a source of the recipe or a package's version changes."""
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name} {len(sources[name])}\n".encode() + sources[name])
    for package in sorted(packages, key=lambda each: each.name):
        digest.update(f"{package.name} {package.version}\n".encode())
    return digest.hexdigest()[:16]


def built_image(cache: Path, say: Progress) -> Path:
    """The guest's qcow2 file in `cache`, built now if this recipe with these packages is not there yet."""
    packages = guest_packages(say)
    here = Path(__file__)
    recipe = (here, here.with_name("disk_layout.py"), *_SCRIPTS.iterdir())
    digest = recipe_digest({path.name: path.read_bytes() for path in recipe}, packages)
    target = cache / f"nano-guest-{digest}.qcow2"
    if not target.exists():
        debs = fetch(packages, cache / "debs", say)
        with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as scratch:
            say("assembling the guest's disk")
            _build(debs, Path(scratch)).rename(target)
    return target


def cache_folder(root: Path) -> Path:
    """Where built images are kept: `NANO_CACHE`, else `cache/` under the fleet's own folder."""
    return Path(os.environ.get("NANO_CACHE") or root / "cache").absolute()


def _build(debs: list[Path], scratch: Path) -> Path:
    unpacked, root = scratch / "unpacked", scratch / "root"
    for deb in debs:
        run_tool("dpkg-deb", "-x", str(deb), str(unpacked))
    _fill_root(unpacked, root)
    fat = _boot_partition(unpacked, scratch)
    ext4 = scratch / "root.ext4"
    options = (
        "-q",
        "-t",
        "ext4",
        "-J",
        "size=4",
        "-E",
        "root_owner=0:0,lazy_itable_init=1",
        "-L",
        "nano-root",
    )
    run_tool("mke2fs", *options, "-d", str(root), str(ext4), f"{_ROOT_BYTES // 1024}k")
    raw, qcow2 = scratch / "disk.raw", scratch / "disk.qcow2"
    _join(raw, fat, ext4)
    run_tool("qemu-img", "convert", "-O", "qcow2", str(raw), str(qcow2))
    return qcow2


def _fill_root(unpacked: Path, root: Path) -> None:
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True)
    _place(root / "bin/busybox", (unpacked / "bin/busybox").read_bytes(), 0o755)
    for applet in run_tool(str(unpacked / "bin/busybox"), "--list").split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    for applet in ("init", "hwclock"):
        (root / "sbin" / applet).symlink_to("../bin/busybox")
    _place(root / "usr/sbin/qemu-ga", (unpacked / "usr/sbin/qemu-ga").read_bytes(), 0o755)
    for name, library in _libraries(unpacked, unpacked / "usr/sbin/qemu-ga"):
        _place(root / "lib" / name, library.read_bytes(), 0o755)
    (root / "lib64").symlink_to("lib")
    for script, place in _PLACES.items():
        _place(root / place, (_SCRIPTS / script).read_bytes(), 0o755)
    for place, text in _TEXTS.items():
        _place(root / place, text.encode(), 0o600 if place == "etc/shadow" else 0o644)


def _libraries(unpacked: Path, program: Path) -> list[tuple[str, Path]]:
    """Name and file of each shared library that `program` loads, found by the unpacked loader itself."""
    loader = next(path for path in unpacked.rglob("ld-linux-x86-64.so.2") if path.is_file())
    folders = ":".join(str(unpacked / place / "x86_64-linux-gnu") for place in ("lib", "usr/lib"))
    listed = run_tool(str(loader), "--library-path", folders, "--list", str(program))
    named = re.findall(r"^\s*(\S+) => (\S+) \(", listed, re.MULTILINE)
    outside = [name for name, path in named if not Path(path).is_relative_to(unpacked)]
    if outside:
        raise Unsupported(
            f"the guest agent needs libraries that its packages do not name: {', '.join(outside)}"
        )
    return [(Path(name).name, Path(path)) for name, path in named]


def _boot_partition(unpacked: Path, scratch: Path) -> Path:
    kernel = next((unpacked / "boot").glob("vmlinuz-*"))
    initrd = scratch / "initrd.gz"
    initrd.write_bytes(gzip.compress(newc_archive(_initramfs(unpacked)), mtime=0))
    fat = scratch / "boot.fat"
    payload_bytes = kernel.stat().st_size + initrd.stat().st_size
    with fat.open("wb") as file:
        file.truncate((payload_bytes // _MIB + 6) * _MIB)
    run_tool("mkfs.vfat", "-F16", "-n", "BOOT", str(fat))
    run_tool("mcopy", "-i", str(fat), str(kernel), "::vmlinuz")
    run_tool("mcopy", "-i", str(fat), str(initrd), str(_SCRIPTS / "syslinux.cfg"), "::")
    run_tool("syslinux", "--install", str(fat))
    return fat


def _initramfs(unpacked: Path) -> list[Entry]:
    folder = next(path for path in unpacked.glob("**/lib/modules/*") if path.is_dir())
    run_tool("depmod", "-b", str(folder.parents[2]), folder.name)
    builtin = (folder / "modules.builtin").read_text()
    paths = module_order((folder / "modules.dep").read_text(), builtin, _MODULES)
    modules = [Entry(f"modules/{_module_name(path)}.ko", 0o100644, _module(folder / path)) for path in paths]
    order = "".join(f"{_module_name(path)}.ko\n" for path in paths).encode()
    folders = [Entry(name, 0o040755) for name in ("bin", "dev", "proc", "sys", "disk", "modules")]
    return [
        *folders,
        Entry("bin/busybox", 0o100755, (unpacked / "bin/busybox").read_bytes()),
        Entry("init", 0o100755, (_SCRIPTS / "initramfs-init").read_bytes()),
        Entry("modules/order", 0o100644, order),
        *modules,
    ]


def _module(path: Path) -> bytes:
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content


def _join(raw: Path, fat: Path, ext4: Path) -> None:
    """Boot record, boot partition from 1 MiB, root partition behind it."""
    fat_bytes, ext4_bytes = fat.stat().st_size, ext4.stat().st_size
    boot = Partition(0x06, _MIB // SECTOR_BYTES, fat_bytes, bootable=True)
    root = Partition(0x83, (_MIB + fat_bytes) // SECTOR_BYTES, ext4_bytes)
    with raw.open("wb") as disk:
        disk.write(master_boot_record(_BOOT_CODE.read_bytes(), [boot, root], disk_signature=0x4E414E4F))
        for part, place in ((fat, _MIB), (ext4, _MIB + fat_bytes)):
            disk.seek(place)
            with part.open("rb") as source:
                shutil.copyfileobj(source, disk, _MIB)


def _place(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
