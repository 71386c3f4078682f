"""The units of `packaging` under a real systemd: only in the virtual machine of `scripts/vm-test --systemd`."""
