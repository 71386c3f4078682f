"""All objects (layer 5): the registry that reads and writes them, and the history that watches follow."""
