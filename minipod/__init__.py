"""minipod: the Kubernetes Pod, exactly, on one Linux host, without Kubernetes."""

__version__ = "0.2.0"
