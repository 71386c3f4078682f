"""Faults: everything that can happen to agent, spawner, commands and host, with a ledger of what must not be lost.

`scripts/faults` runs rounds of it for as long as one likes; the tests of this folder are a short one.
"""
