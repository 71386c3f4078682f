"""A pod's network (layer 2): bridge and veth pair, masquerading and hostPorts, forwarding; as operations."""
