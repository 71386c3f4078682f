"""The verbs (layer 6), a module each: `configure` names its options, `run` does it. Only the one called is loaded."""
