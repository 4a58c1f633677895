"""Image bytes and the like: plain HTTP/3 bodies with ranges, on links of their own, never inside messages.

- `bodies.py`: what both ends agree on. `client.py` asks, `server.py` answers.
"""
