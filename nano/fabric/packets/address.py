"""Where a packet comes from or goes to."""

Address = tuple[str, int]
"""IP address and UDP port; for IPv6 the kernel's four-part form, handed through as it is."""
