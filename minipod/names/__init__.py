"""The answerer (layer 2): a small process that answers the pods' DNS questions. Knows no agent and no runtime.

`table` is what it answers from, `zone` decides, `wire` reads and writes messages, `forward` asks the host's resolvers,
`program` is the loop. `start` starts and stops it; that and `table` are all that the runtime and the agent see.
"""

PROCESS_NAME = "minipod-names"
