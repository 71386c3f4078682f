"""The command line (layer 6), thin: a module for each verb, loaded when it is called, and what they share."""
