"""Probes and hooks (layer 5): when they are due, what they are made of, how each kind is made."""
