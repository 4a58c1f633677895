"""Who a peer is, who says so, and whom the zone trusts.

- `identity.py`, `folder.py`, `credentials.py`: name and role, the files that prove them, and both ready for
  handshakes.
- `authority.py`, `renewal.py`: who signs, and when a certificate is signed anew.
- `trust.py`: the authorities and the keys shut out, as each peer keeps them.
"""
