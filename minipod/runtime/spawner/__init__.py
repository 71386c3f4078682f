"""The spawner (layer 3): the small program that forks, waits and keeps descriptors, and the agent's end of it."""

PROCESS_NAME = "minipod-spawner"  # of the spawner, and of each child until it executes a program
