"""Channels of a remote command in the messages of a WebSocket (layer 5, pure): streams, errors, terminal sizes.

Protocols v5 and v4.channel.k8s.io: the first byte of a message is its channel; in v5 [255, channel] ends one.
Rules: apimachinery's util/remotecommand, client-go's tools/remotecommand/websocket.go.
"""

from __future__ import annotations

from typing import NamedTuple

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255


class Frame(NamedTuple):
    """`is_end`: the client closes the channel; there is no data then."""

    channel: int
    data: bytes
    is_end: bool = False


def frame_of(message: bytes) -> Frame | None:
    """None for an empty message, which some clients send to keep a connection alive."""
    if not message:
        return None
    if message[0] == CLOSE and len(message) > 1:
        return Frame(message[1], b"", is_end=True)
    return Frame(message[0], message[1:])


def message_of(channel: int, data: bytes) -> bytes:
    return bytes([channel]) + data
