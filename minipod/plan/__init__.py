"""Decisions (layer 2): from a Pod to what a runtime is asked for, and from that to operations on the kernel, as values.

`pod` makes CRI's configs of a Pod; `sandbox` and `container` make lists of operations of these; each operation can
describe it and execute it. `minipod plan` prints the very objects that `run` executes.
"""
