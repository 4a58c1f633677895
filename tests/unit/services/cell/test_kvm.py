"""KVM is used where it really works."""

import pytest

from nano.model.errors import Unsupported
from nano.model.pool import VirtType
from services.cell.kvm import VirtChoice, virt_type


@pytest.mark.parametrize(
    ("choice", "flags", "opens", "found"),
    [
        (VirtChoice.AUTO, "fpu vmx", True, VirtType.KVM),
        (VirtChoice.AUTO, "fpu svm", True, VirtType.KVM),
        (VirtChoice.AUTO, "fpu", True, VirtType.QEMU),
        (VirtChoice.AUTO, "fpu vmx", False, VirtType.QEMU),
        (VirtChoice.AUTO, "fpu svm_lock", True, VirtType.QEMU),
        (VirtChoice.KVM, "fpu vmx", True, VirtType.KVM),
        (VirtChoice.QEMU, "fpu vmx", True, VirtType.QEMU),
    ],
)
def test_kvm_is_believed_only_with_flag_and_device(
    choice: VirtChoice, flags: str, opens: bool, found: VirtType
) -> None:
    assert virt_type(choice, cpuinfo=f"processor : 0\nflags\t\t: {flags}\n", device_opens=opens) is found


@pytest.mark.parametrize(
    ("flags", "opens", "lack"), [("fpu", True, "neither vmx nor svm"), ("vmx", False, "/dev/kvm")]
)
def test_demanding_kvm_where_it_is_not_says_what_lacks(flags: str, opens: bool, lack: str) -> None:
    with pytest.raises(Unsupported, match=lack) as caught:
        virt_type(VirtChoice.KVM, cpuinfo=f"flags : {flags}\n", device_opens=opens)
    assert caught.value.field == "virt_type"
