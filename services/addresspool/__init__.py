"""The address pool: which addresses there are, and which instance holds which.

The single writer of address pools, ranges and leases. Decides in `ledger.py`, takes the scheduler's steps as
`steps.py` says, answers in `rpc.py`. It does not touch instances, and it does not speak to guests: that is
the responder's work on each host, a process of its own (`responder.py`) that decides in `dhcp.py` and is told
by the cell what it may answer.
"""
