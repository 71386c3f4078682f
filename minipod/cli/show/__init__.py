"""How things are printed (layer 6): tables, YAML, JSONPath, progress, colours."""
