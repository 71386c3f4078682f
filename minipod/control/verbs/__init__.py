"""What can be asked of the agent (layer 6): the control socket's verbs, a module each; `table` names them."""
