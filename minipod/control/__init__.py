"""The control socket: the face that the command line talks to (layer 6). Framing, the server, and a verb a module."""
