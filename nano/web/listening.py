"""Whether a door may be open as it is asked to be."""

import ipaddress

from nano.model.errors import Invalid


def check_listening(listen: str, *, tls: bool, allow_plain: bool) -> None:
    """Invalid when requests would travel plain where others can listen."""
    try:
        is_loopback = ipaddress.ip_address(listen).is_loopback
    except ValueError:
        raise Invalid("listen", f"listen {listen!r} is not an address: give one such as 0.0.0.0") from None
    if not (tls or is_loopback or allow_plain):
        raise Invalid(
            "tls",
            f"tls = false on {listen} would show every request to the network: listen on 127.0.0.1, "
            "or set allow_plain = true as well",
        )
