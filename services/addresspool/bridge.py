"""The bridge as the responder sees it: frames to UDP port 67 in, frames out, and when it comes and goes.

A packet socket (packet(7)) hears clients that have no address yet and reaches them by their MAC, which a UDP
socket cannot. The kernel drops all other frames before they cost anything (socket(7), SO_ATTACH_FILTER).
"""

import errno
import fcntl
import os
import socket
import struct
from array import array
from ipaddress import IPv4Address
from typing import Final

from services.addresspool.dhcp import Server
from services.addresspool.packet import SERVER_PORT, mac_text

STAND_IN = IPv4Address("169.254.67.67")
"""The server's name where the bridge has no address: guests then renew by broadcast, at 7/8 of the lease."""

_ETH_P_IP = 0x0800
_LONGEST_FRAME_BYTES = 65_550
_RECEIVE_BYTES = 2**20
"""Some 700 requests may wait: a rack that boots at once."""
_SO_ATTACH_FILTER = 26
_SIOCGIFADDR, _SIOCGIFMTU = 0x8915, 0x8921
_RTMGRP_LINK, _RTMGRP_IPV4_ADDRESS = 0x1, 0x10
_GONE = {errno.ENETDOWN, errno.ENODEV, errno.ENXIO}
_UNSENT = _GONE | {errno.EAGAIN, errno.ENOBUFS, errno.EMSGSIZE}

_FILTER: Final = (
    # code, jump if true, jump if false, operand: linux/bpf_common.h
    (0x28, 0, 0, 12),  # half word at 12: the ethertype
    (0x15, 0, 8, _ETH_P_IP),
    (0x30, 0, 0, 23),  # byte at 23: the protocol
    (0x15, 0, 6, socket.IPPROTO_UDP),
    (0x28, 0, 0, 20),  # half word at 20: flags and offset
    (0x45, 4, 0, 0x3FFF),  # a fragment
    (0xB1, 0, 0, 14),  # X = length of the IPv4 header
    (0x48, 0, 0, 16),  # half word at X + 16: the UDP port it goes to
    (0x15, 0, 1, SERVER_PORT),
    (0x06, 0, 0, 0xFFFFFFFF),  # take it whole
    (0x06, 0, 0, 0),  # drop it
)


class Bridge:
    """One open bridge; it is another one when its index has changed."""

    def __init__(self, name: str) -> None:
        """Open it; `OSError` when there is none of that name."""
        self.name = name
        self.index = socket.if_nametoindex(name)
        # Protocol 0 hears nothing, so no frame comes in before the filter stands.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            _attach(self._socket)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
            self._socket.bind((name, _ETH_P_IP))
            self.server = self._describe()
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def look_again(self) -> None:
        """Take over what has changed; `OSError` when the interface is gone, or another has its name."""
        if socket.if_nametoindex(self.name) != self.index:
            raise OSError(errno.ENODEV, "another interface has taken its name", self.name)
        self.server = self._describe()

    def _describe(self) -> Server:
        mtu_bytes = struct.unpack_from("i", self._ask(_SIOCGIFMTU), 16)[0]
        try:
            address = IPv4Address(self._ask(_SIOCGIFADDR)[20:24])
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            address = STAND_IN
        return Server(address, mac_text(self._socket.getsockname()[4]), mtu_bytes)

    def receive(self) -> bytes | None:
        """The next frame that a guest sent; None when there is none now."""
        while True:
            try:
                frame, sender = self._socket.recvfrom(_LONGEST_FRAME_BYTES)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in _GONE:
                    return (
                        None  # told once when the interface goes down; the socket hears again when it is up
                    )
                raise
            if sender[2] != socket.PACKET_OUTGOING:
                return frame

    def send(self, frame: bytes) -> bool:
        """Whether the frame went out; a client that hears nothing asks again."""
        try:
            self._socket.send(frame)
        except OSError as error:
            if error.errno not in _UNSENT:
                raise
            return False
        return True

    def _ask(self, request: int) -> bytes:
        return fcntl.ioctl(self._socket, request, struct.pack("16s24x", os.fsencode(self.name)))


class LinkNews:
    """Tells that some interface came, went or changed (rtnetlink(7)); look for yourself."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_ADDRESS))

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def drain(self) -> None:
        """Forget what was told so far. What the kernel had no room for (ENOBUFS) is news all the same."""
        while True:
            try:
                self._socket.recv(65_536)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise


def _attach(packets: socket.socket) -> None:
    """Have the kernel run `_FILTER`: a `sock_fprog` of a length and a pointer, which is copied at once."""
    program = array("B", b"".join(struct.pack("HBBI", *line) for line in _FILTER))
    address, _length = program.buffer_info()
    packets.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_FILTER), address))
