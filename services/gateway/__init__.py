"""The gateway: the REST API, as old clients know it and with what is new.

Owns nothing but the keys to the API: every read is answered from replicas of the others' books (`view.py`,
fed by `feed.py`), every write is passed on to whoever keeps the book. Decides who may call in `keyring.py`,
and what a path means in `paths.py`; `app.py` is the door, `routes/` has a file for each noun of the surface.
It never talks to a cell, and nobody on the fabric dials it.
"""
