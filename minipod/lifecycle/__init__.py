"""A kubelet's rules (layer 4, pure): `step(state, event, now) -> (state, actions)`. No clock, no input, no output.

`model` has the values, `core` the step, `compute` what is to be started and ended next, `publish` the v1.PodStatus.
"""
