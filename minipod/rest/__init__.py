"""The Kubernetes API of this host (layer 6): a process between HTTPS clients and the agent's control socket."""
