from nano.fabric.packets.sealing import MakeKeys

Keys: MakeKeys
