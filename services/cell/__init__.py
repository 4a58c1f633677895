"""One server that hosts instances.

The only writer of the book of the instances on this host (`host.py`), of their domains and volumes, of what
is so with them right now (`statuses.py`), and of what came of the steps that tasks take here (`orders.py`).
Does not own: who may run an instance (the scheduler's inventory, by epochs), images, addresses, and the
lease of a guest, which the DHCP responder of this host hands out by itself.

Read in this order: `hypervisor.py`, `host.py`, `orders.py`, `observer.py`; the rest touches the world.
"""
