"""One server that hosts instances.

Owns, as the only writer: the book of the instances on this host (`host.py`), their domains and volumes, what is so with them at
this moment (`account.py`), and the outcomes of the steps that tasks take here (`orders.py`).
Does not own: who may run an instance (the scheduler's inventory, by epochs), images, addresses, and the
lease of a guest, which the DHCP responder of this host hands out by itself.

Read in this order: `hypervisor.py`, `host.py`, `orders.py`, `observer.py`; the rest touches the world.
"""
