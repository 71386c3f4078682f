"""Connections to the outside (layer 5): HTTP/1.1, WebSocket, channels of commands. Knows sockets, no pods."""
