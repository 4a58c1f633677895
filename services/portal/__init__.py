"""The portal: pages for people, and the documented FrontEnd routes behind them.

The single writer of users, groups, roles and what groups share (`directory.py`), and of the operation log
(`oplog.py`). Decides who may call what in `access.py` and who sees what in `visible.py`; `app.py` is the
door, `routes/` has a file for each noun, `web/` the pages themselves. It owns no instance and no image, and
is not a peer of the fabric: it asks the gateway over REST (`upstream.py`) like any other client.
"""
