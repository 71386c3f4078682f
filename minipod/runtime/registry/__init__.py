"""Registries (layer 3): the distribution protocol and Docker's, with tokens, mirrors and resumed downloads. Stores nothing."""
