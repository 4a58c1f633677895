"""The scheduler: what exists in the zone, where it runs, and every task that changes it.

The single writer of pools, cells, templates, instance records, ownership epochs and tasks. Decides in
`inventory.py`, `placement.py` and `lifecycle.py`; tells each task's story in `tasks/`; answers in `rpc.py`
and listens to cells in `cells.py`. It does not touch a hypervisor, an address or an image: their services do.
"""
