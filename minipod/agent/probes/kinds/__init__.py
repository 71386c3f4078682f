"""How each kind of probe is made (layer 5): TCP, HTTP, gRPC, exec. When, and what a result means, is said elsewhere.

The first three are callbacks on one non-blocking socket, without task or stream: hundreds a second must cost little.
"""
