"""Who is on the fabric, and where.

- `roster.py`, `roster_events.py`, `addresses.py`: what is known of each peer. No I/O.
- `announcement.py`, `multicast.py`, `discovery.py`: saying it to everybody and hearing it.
- `directory.py`: asking for a peer by its name.
"""
