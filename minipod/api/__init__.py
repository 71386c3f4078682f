"""The Kubernetes objects (layer 1, pure): loading, defaults, validation, status and printing. Knows no kernel."""
