"""What stands beside the pods (layer 5): ConfigMaps, Secrets, claims and volumes, and how their changes reach pods."""
