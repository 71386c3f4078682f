"""Starts and composes the agent's process (layer 7): the only package that knows the agent and its faces."""
