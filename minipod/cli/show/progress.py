"""The output of `minipod run` (layer 6): steps, the containers' lines, how it ended. Calls no agent."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from minipod.cli.show.output import write
from minipod.cli.show.style import Style
from minipod.cli.values import TYPE_CHECKING, Object
from minipod.streams import crilog
from minipod.streams.crilog import Follower, Joiner, Line
from minipod.terminal import behind, escaped, indented

if TYPE_CHECKING:
    from minipod.cli.show.pull_progress import Pulls
    from minipod.kernel.inotify import Inotify

FAILURES = ("failed", "backoff", "pending", "unhealthy", "killing")
WAITED_FOR = ("backoff", "pending", "unhealthy", "killing")  # what a detached run shows too
TERMINAL = ("Succeeded", "Failed")
_INDENT = 13  # behind the name of a step
SORT_LIMIT = 2000  # lines of several containers that came together are put in the order of their times


class LogStream:
    """One container's log file as it grows."""

    def __init__(self, path: str, prefix: dict[int, bytes]) -> None:
        self.follower = Follower(path)
        self.prefix = prefix
        self._joiner = Joiner()

    def plain_text(self, data: bytes) -> bytes | None:
        """The text as it is to be printed, where nothing has to be done to it: a container alone, whole lines."""
        return crilog.stdout_text(data) if not self.prefix[1] and self._joiner.is_idle else None

    def lines(self, data: bytes) -> list[Line]:
        return list(self._joiner.feed(crilog.parse(data)))

    def last_lines(self) -> list[Line]:
        rest = self.follower.remainder()
        return (self.lines(rest + b"\n") if rest else []) + list(self._joiner.flush())


class Progress:
    """Shows events as they come. `quiet`: only warnings and restarts that are waited for (`run --detach`)."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._styles = {1: Style(1), 2: Style(2)}
        self._is_terminal = {fd: os.isatty(fd) for fd in (1, 2)}
        self.listener: Callable[[Object], None] = lambda _event: None  # is shown each event as well
        self.pod_events: list[Object] = []
        self._pods: list[str] = []
        self._ports: dict[str, list[Object]] = {}  # of the host, by pod
        self._phases: dict[str, str] = {}
        self._containers: list[tuple[str, str]] = []  # (pod, container), which gives the colour
        self._streams: dict[str, LogStream] = {}
        self._watches: Inotify | None = None
        self._open_line: bytes | None = None  # the prefix of a line that is not finished yet
        self._pulls: Pulls | None = None

    def watch_with(self, watches: Inotify) -> None:
        self._watches = watches

    def container_count(self) -> int:
        return len(self._containers)

    def show(self, event: Object) -> None:
        """One event of the agent's."""
        self.listener(event)
        kind = event.get("event")
        if kind == "warning":
            self.note(str(event["message"]), "warning")
        elif kind == "applied" and event.get("result") != "unchanged":
            style = self._styles[2]
            text = f"{str(event['kind']).lower()}/{event['name']} {event['result']}"
            if not self._quiet:
                self._say(f"{style.dim('object'.ljust(12))} ", text)
        elif kind == "pod":
            self.pod_events.append(event)
            self._pods.append(_pod_key(event))
            self._ports[_pod_key(event)] = event.get("ports") or []
            self._containers += [(_pod_key(event), entry["name"]) for entry in event.get("containers") or []]
        elif kind == "phase":
            self._phases[_pod_key(event)] = str(event.get("phase"))
        elif kind == "step":
            if self._pulls is not None and event.get("step") in ("image", "failed"):
                self._pulls.ended(_container_key(event))
            self._step(event)
        elif kind == "pull":
            self._pull(event)
        elif kind == "log" and not self._quiet:
            self._add_stream(event)

    def _pull(self, event: Object) -> None:
        if self._pulls is None:
            from minipod.cli.show.pull_progress import Pulls

            self._pulls = Pulls(lambda line: self._say(f"{self._styles[2].dim('image'.ljust(12))} ", line))
        self._pulls.show(_container_key(event), str(event["image"]), event["layers"])

    def note(self, message: str, kind: str = "minipod") -> None:
        style = self._styles[2]
        self._say(f"{style.paint(kind + ':', 33)} ", message)

    def _step(self, event: Object) -> None:
        step, message = str(event.get("step")), str(event.get("message", ""))
        if self._quiet and step not in WAITED_FOR:  # failures are in the last answer
            return
        if step == "terminating" and self._phases.get(_pod_key(event)) in TERMINAL:
            return  # it has ended by itself; only its traces are removed now
        style = self._styles[2]
        pod = f"{event.get('name')} " if len(self._pods) > 1 else ""
        paint = style.bad if step in FAILURES else style.good if step == "ready" else style.dim
        self._say(f"{escaped(pod)}{paint(f'{step:<12}')} ", message)
        if step == "ip":
            for port in self._ports.get(_pod_key(event), ()):
                self._say(f"{escaped(pod)}{paint('port'.ljust(12))} ", port_text(port))

    def _add_stream(self, event: Object) -> None:
        path = str(event["path"])
        if path in self._streams:
            return
        from minipod.kernel import inotify

        if self._watches is not None:
            mask = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_MOVED_FROM
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._watches.add_watch(os.path.dirname(path), mask)
        self._streams[path] = LogStream(path, self._prefixes(event))
        self.drain()

    def _prefixes(self, event: Object) -> dict[int, bytes]:
        """`name | ` for each descriptor, aligned and coloured; nothing for the only container there is."""
        if len(self._containers) < 2:
            return {1: b"", 2: b""}
        labels = [self._label(pod, name) for pod, name in self._containers]
        pod = _pod_key(event) if "name" in event else self._pods[0]
        label = self._label(pod, event["container"])
        index = labels.index(label) if label in labels else 0
        text = label.ljust(max(map(len, labels))) + " | "
        return {fd: style.container(text, index).encode() for fd, style in self._styles.items()}

    def _label(self, pod: str, container: str) -> str:
        return f"{pod.rpartition('/')[2]}/{container}" if len(self._pods) > 1 else container

    def drain(self) -> None:
        """Print everything that the log files hold by now."""
        batches: list[tuple[LogStream, list[Line]]] = []
        for stream in self._streams.values():
            for data in stream.follower.read():
                text = stream.plain_text(data) if self._open_line is None else None
                if text is not None:
                    self._write(1, text)
                    continue
                lines = stream.lines(data)
                if len(self._streams) == 1 or len(lines) > SORT_LIMIT:
                    self._print(stream, lines)
                else:
                    batches.append((stream, lines))
        self._print_sorted(batches)

    def _print_sorted(self, batches: list[tuple[LogStream, list[Line]]]) -> None:
        if len(batches) > 1:
            entries = [(crilog.stamp_key(line.stamp), stream, line) for stream, lines in batches for line in lines]
            entries.sort(key=lambda entry: entry[0])
            batches = [(stream, [line]) for _, stream, line in entries]
        for stream, lines in batches:
            self._print(stream, lines)

    def _print(self, stream: LogStream, lines: list[Line]) -> None:
        """Runs of lines of the same descriptor in one write."""
        pending: list[bytes] = []
        target = 1
        for line in lines:
            fd = 2 if line.stream == b"stderr" else 1
            if fd != target and pending:
                self._write(target, b"".join(pending))
                pending = []
            target = fd
            prefix = stream.prefix[fd]
            if self._open_line is not None:
                pending.append(b"" if self._open_line == prefix else b"\n" + prefix)
            else:
                pending.append(prefix)
            text = behind(prefix, line.text) if prefix and self._is_terminal[fd] else line.text
            pending.append(text + b"\n" if line.whole else text)
            self._open_line = None if line.whole else prefix
        if pending:
            self._write(target, b"".join(pending))

    def finish(self) -> None:
        """All that is left in the log files, also lines without an end."""
        self.drain()
        for stream in self._streams.values():
            self._print(stream, stream.last_lines())
            stream.follower.close()

    def ended(self, pod: Object) -> None:
        """How a pod ended: `pod/NAME Failed: Error (web 3, db 0)`."""
        style = self._styles[2]
        phase = str(pod.get("phase"))
        codes = ", ".join(f"{name} {code}" for name, code in (pod.get("exit_codes") or {}).items())
        why = ": ".join(str(pod[key]) for key in ("reason", "message") if pod.get(key))
        text = f": {why}" if why else f" (exit codes: {codes})" if codes else ""
        paint = style.good if phase == "Succeeded" else style.bad
        self._say(f"pod/{escaped(str(pod.get('name')))} {paint(phase)}", text)
        sys.stderr.flush()

    def _say(self, head: str, text: str) -> None:
        """A line of our own: `head` may be painted, `text` comes from others."""
        self._write(2, f"{head}{indented(text, _INDENT)}\n".encode(errors="backslashreplace"))

    def _write(self, fd: int, data: bytes) -> None:
        if self._pulls is not None:
            self._pulls.erase()
        write(fd, data)


def port_text(port: Object) -> str:
    """`18080 → app:8080`; with the protocol and the host's address where they are not the usual ones."""
    host = f"{port['host_ip']}:" if port["host_ip"] else ""
    protocol = "" if port["protocol"] == "TCP" else f"/{port['protocol']}"
    return f"{host}{port['host_port']} → {port['container']}:{port['container_port']}{protocol}"


def _pod_key(event: Object) -> str:
    return f"{event.get('namespace', 'default')}/{event.get('name')}"


def _container_key(event: Object) -> str:
    return f"{_pod_key(event)}/{event.get('container', '')}"
