"""How a process becomes a container (layer 2): namespaces, root, user, capabilities, seccomp, as operations."""
