"""Linux (layer 1): system calls by ctypes, netlink, nftables, cgroup files, under the kernel's own names. No policy."""
