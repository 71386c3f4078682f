"""The pods (layer 5): each has a worker that feeds the lifecycle, and an executor of the lifecycle's actions."""
