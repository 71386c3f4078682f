"""What can be asked of the agent (layer 5): the control socket's verbs, a module each; `table` names them."""
