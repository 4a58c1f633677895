"""Where a packet comes from or goes to."""

Address = tuple[str, int]
"""IP address and UDP port; for IPv6 the kernel's four-part form, handed through as it is.

At a socket that listens on every address of its host, our own end of the path stands behind it: `own_end.py`.
"""
