"""A word when the agent is silent, and the end of what takes longer than --request-timeout (layer 6).

One interval timer of the process, and so the same in whichever loop a command waits. Only `main.entry` arms it: where
others call the command line as a module no signal is used.
"""

from __future__ import annotations

import _socket
import signal
import sys
import time
from collections.abc import Callable

from minipod.cli.values import Object
from minipod.errors import AgentError

SILENCE_S = 5.0
SO_PEERCRED = 17  # socket(7): struct ucred, pid first
#: these are answered by a first event and then last: --request-timeout holds until that event
_LASTING = ("run", "exec", "attach")


class Wait:
    """One thing that is waited for."""

    __slots__ = ("began_s", "has_answer", "has_word", "heard_s", "is_lasting", "pid", "what", "why")

    def __init__(self, what: str, pid: int = 0, is_lasting: bool = False, why: Callable[[], str] | None = None) -> None:
        """`pid`: the agent's; 0 where there is none yet. `why`: asked when there is something to print."""
        self.what = what
        self.why = why
        self.pid = pid
        self.is_lasting = is_lasting
        self.has_answer = False
        self.began_s = self.heard_s = time.monotonic()
        self.has_word = False

    def heard(self) -> None:
        """The agent has sent something."""
        self.has_answer = True
        self.has_word = False
        self.heard_s = time.monotonic()

    def deadline_s(self, limit_s: float) -> float:
        """When it has taken too long; infinity: never."""
        is_limited = limit_s > 0 and not (self.is_lasting and self.has_answer)
        return self.began_s + limit_s if is_limited else float("inf")

    def word(self) -> str:
        """What is printed when the agent has been silent for so long; empty where that is normal."""
        is_stopped = self.pid > 0 and _is_stopped(self.pid)
        if not is_stopped and self.is_lasting and self.has_answer:
            return ""
        agent = f" (process {self.pid})" if self.pid else ""
        remedy = f"; it is stopped: kill -CONT {self.pid} continues it" if is_stopped else ""
        why = f"; {self.why()}" if self.why is not None else ""
        return f"still waiting for the agent{agent}: {self.what}{remedy}{why}"


class Patience:
    """All that is waited for at the moment. `limit_s`: seconds until the answer to a request; 0: no limit."""

    def __init__(self) -> None:
        self.limit_s = 0.0
        self._is_armed = False
        self._waits: list[Wait] = []

    def arm(self) -> None:
        """From now on this process gets a word and an end."""
        self._is_armed = True

    def begin(self, wait: Wait) -> Wait:
        self._waits.append(wait)
        if self._is_armed:
            signal.signal(signal.SIGALRM, self._look)
            self._set_timer()
        return wait

    def end(self, wait: Wait) -> None:
        """No effect on one that has ended."""
        if wait in self._waits:
            self._waits.remove(wait)
        if self._is_armed and not self._waits:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def during(self, what: str, sock: _socket.socket | None = None, why: Callable[[], str] | None = None) -> _During:
        """A context in which `what` is waited for; `sock`: a connection to who is waited for. `why`: see `Wait`."""
        return _During(self, Wait(what, peer_pid(sock) if sock is not None else 0, why=why))

    def _set_timer(self) -> None:
        now_s = time.monotonic()
        next_s = min(
            min(wait.deadline_s(self.limit_s), max(wait.heard_s, now_s - 0.9 * SILENCE_S) + SILENCE_S)
            for wait in self._waits
        )
        signal.setitimer(signal.ITIMER_REAL, max(0.001, next_s - now_s))

    def _look(self, _number: int, _frame: object) -> None:
        """The timer has run out. Raises AgentError in what waits."""
        now_s = time.monotonic()
        for wait in self._waits:
            if wait.deadline_s(self.limit_s) <= now_s:
                raise AgentError(f"no answer within {self.limit_s:g} s (--request-timeout): {wait.word() or wait.what}")
            if not wait.has_word and now_s - wait.heard_s >= SILENCE_S and (word := wait.word()):
                wait.has_word = True
                print(word, file=sys.stderr, flush=True)
        if self._waits:
            self._set_timer()


class _During:
    """contextlib costs more than all of it."""

    def __init__(self, patience: Patience, wait: Wait) -> None:
        self._patience = patience
        self._wait = wait

    def __enter__(self) -> None:
        self._patience.begin(self._wait)

    def __exit__(self, *_exc: object) -> None:
        self._patience.end(self._wait)


def wait_of(message: Object, sock: _socket.socket) -> Wait:
    """What a request waits for."""
    return Wait(described(message), peer_pid(sock), bool(message.get("watch")) or message.get("verb") in _LASTING)


def described(message: Object) -> str:
    """A request as its user would write it: `delete pods web`, `exec web`."""
    hint = "(a pod takes up to its grace period to end)" if message.get("verb") == "delete" else ""
    names = message.get("names") or [message.get(key) for key in ("name", "pod") if message.get(key)]
    words = [message.get("verb"), message.get("kind"), *names, hint]
    return " ".join(str(word) for word in words if word)


def peer_pid(sock: _socket.socket) -> int:
    """The pid of the process at the other end; 0 where that cannot be known. Loads less than `kernel.peer`."""
    try:
        credentials = sock.getsockopt(_socket.SOL_SOCKET, SO_PEERCRED, 12)
    except OSError:
        return 0
    return int.from_bytes(credentials[:4], sys.byteorder, signed=True)


def _is_stopped(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except OSError:
        return False


patience = Patience()
