"""The spawner (layer 3): the small program that forks, waits and keeps descriptors, and the agent's end of it."""
