"""Effects (layer 3), with CRI's verbs: sandboxes, containers, images, networks, logs. Knows no Pod, restarts nothing.

`runtime` is its face. What runs in a child of the spawner, a program of its own, is a plan's; the rest is done here.
"""
