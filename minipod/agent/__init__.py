"""The node agent (layer 5): the process that owns the pods of a host, in the place of a kubelet.

`pods` holds a `worker` for each pod: it feeds the lifecycle with events and has its actions executed by `executor`.
`server`, `wire` and `verbs` are the control socket, `store` is the memory, `recovery` takes over from an earlier agent.
"""
