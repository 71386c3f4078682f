"""Controllers of what pods use (layer 5): ConfigMaps, Secrets, claims and volumes, and how their changes reach pods."""
