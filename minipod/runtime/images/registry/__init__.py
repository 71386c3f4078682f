"""Registries (layer 3): the distribution protocol and Docker's: tokens, mirrors, resumed downloads. Stores nothing."""
