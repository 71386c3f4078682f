"""The pods (layer 5): each has a worker that feeds the lifecycle, and hands that carry out what it says."""
