"""How a host's cell and its DHCP responder talk: which interface gets which address.

`messages` are the words, shared by both ends and light enough for the responder (standard library only);
`client` is the cell's end. The responder itself is `services.addresspool.responder`.
"""
