"""Failpoints (layer 0): named steps at which a test kills or stops the process that reaches them. Free in production.

Each step between "saved" and "done" passes its name through `reached`, which does nothing unless the environment arms
one of them when the process starts:

    MINIPOD_FAILPOINT="<name> <action> <marker> [<nth>]"     container.spawned kill /tmp/t/marker

`action`: kill (SIGKILL to itself), stop (SIGSTOP to itself), term (SIGTERM to itself, and on), fail (OSError ENOSPC).
`marker`: a file that must not exist: the process creates it, with its pid, just before the action. So the action is
taken once, also where the next agent is started with the same environment, and a test knows that the step was reached,
and in which process. `nth`: the passage that counts, 1 unless it is there. Agent, spawner and command line have it.

`every(kinds)` lists all names: those of `POINTS`, and two for each kind of host operation, which are passed after it
was executed and undone. How a test uses it, with `tests/failpoints.py`:

    with armed(node, "container.spawned", "kill") as hit:    # the agent and the spawner that start next have it
        node("run", "-d", path, check=False)                 # starts an agent, which kills itself there
        pid = hit.wait()                                     # fails the test where the step is not reached
    node("get", "pods")                                      # the next agent
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterable

VARIABLE = "MINIPOD_FAILPOINT"

#: name -> what has just happened
POINTS = {
    # the agent's life
    "agent.locked": "it holds its locks",
    "agent.spawner-begun": "its spawner is being started, where none lived",
    "agent.adopted": "the runtime's records are loaded, interrupted starts and ends are completed",
    "agent.recovered": "every stored pod has a worker",
    "agent.serving": "the control socket answers",
    "agent.leaving": "it was asked to end",
    "agent.closed": "workers and runtime are closed",
    # the store and the objects in it
    "store.written": "a transaction is written, not committed",
    "store.committed": "a transaction is committed, its changes are not announced",
    "store.announced": "the changes of a transaction are announced",
    "pod.stored": "a new pod is stored, its worker has no event yet",
    "pod.saved": "a state of a pod is saved, its actions have not begun",
    "pod.forgotten": "a pod is deleted from the store, its logs are there",
    "pod.logs-removed": "the logs of a pod that is gone are removed",
    # volumes
    "volumes.recorded": "the operations of the pod's volumes are stored, none is executed",
    "volumes.made": "all are executed, no configuration is written",
    "volumes.ready": "volumes are complete, not reported",
    "volumes.undone": "all are undone, and still stored",
    "volumes.forgotten": "their operations are deleted from the store",
    "configuration.filled": "new files of a volume are written, not shown",
    "configuration.swapped": "new files of a volume are shown, the old ones are there",
    # sandbox
    "network.shared": "bridge and table exist, no lease is written",
    "network.bridged": "the bridge of the pod stands",
    "network.leased": "the lease is written",
    "network.unshared": "with the last lease bridge and table are removed, the lease is still written",
    "network.released": "the lease is removed from the file",
    "sandbox.leased": "there is a lease, no record",
    "sandbox.saved": "there is a record, nothing is executed",
    "sandbox.made": "all operations are executed",
    "sandbox.pause-spawned": "the process of the shared PID namespace runs, its pid is not saved",
    "sandbox.ready": "everything is made and saved, not reported",
    "sandbox.pause-ended": "the process of the shared PID namespace is gone",
    "sandbox.undone": "all operations are undone, the lease is there",
    "sandbox.unleased": "the lease is gone, the record lists the operations",
    "sandbox.stopped": "the record lists no operations",
    "sandbox.removed": "the record is removed",
    # container
    "container.saved": "there is a record, nothing is executed",
    "container.made": "all operations are executed",
    "container.created": "it is reported as created",
    "container.spawned": "the spawner has answered, nothing of it is saved",
    "container.running": "it is saved as running, its output is not read",
    "container.started": "its output is read, the start is not reported",
    "container.signalled": "it was sent its stop signal",
    "container.exit-seen": "the spawner has reported its end",
    "container.exit-logged": "all of its output is in the log, its end is not saved",
    "container.exit-saved": "its end is saved, the spawner still has it",
    "container.exit-forgotten": "the spawner has forgotten it, its end is not reported",
    "container.exit-reported": "its end is reported to the pod",
    "container.undone": "its operations are undone, the record is there",
    "container.removed": "its record is removed",
    # commands in containers, resizes
    "hook.begun": "the state says that a hook runs, it does not run yet",
    "hook.ended": "the hook has ended, not reported",
    "exec.launched": "the spawner runs a command",
    "exec.ended": "a command has ended, its client does not know",
    "resize.began": "the new allocation is stored, the cgroups have the old one",
    "resize.pod-set": "the pod's cgroup has its new values",
    "resize.containers-set": "those of its containers have theirs too, not reported",
    # what the spawner is asked for
    "sent.spawn": "the request for a child is sent, it has no answer",
    "sent.launch": "that for a command in a container",
    "sent.kill": "that to kill such a command",
    "sent.list": "that for the children it has",
    "sent.adopt": "that to take a child over, whose start another agent asked for",
    "sent.reattach": "that for the descriptors of a child",
    "sent.hold": "that to hold the child of a spawner that has died",
    "sent.close_stdin": "that to close the input of a child",
    "sent.forget": "that to forget a child",
    # logs
    "log.read": "output is taken out of the pipe, the log does not have it",
    "log.written": "the log has it, the unfinished line is not kept",
    "log.renamed": "the full log has its rotated name, there is no new one",
    "log.reopened": "the new log is open, nothing is compressed",
    "log.trimmed": "the oldest logs are removed, the full one is not renamed",
    "log.compressed": "a rotated log is compressed under a temporary name",
    "log.compressed-named": "the compressed log has its name, the plain one is there",
    # images
    "image.fetched": "a blob is complete and checked, without its name",
    "image.blob-named": "a blob has its name, nothing is unpacked",
    "image.unpacked": "a layer is unpacked, without its name",
    "image.tree-named": "a layer has its name, not in the store",
    "image.part-kept": "its blob is in the store, its tree is not",
    "image.layers-kept": "all layers are in the store, the image has no name",
    "image.named": "the image has its name in the index",
    # the spawner
    "spawner.cloned": "the child exists, no table has it",
    "spawner.started": "the child has executed, the agent does not know",
    "spawner.answered": "the agent was sent the answer",
    "spawner.reaped": "the child is reaped, its end is not recorded",
    "spawner.recorded": "its end is recorded, not reported",
    "spawner.exit-reported": "its end is reported",
    "spawner.forgotten": "it has dropped a child's record",
}

#: each kind of host operation has both, as in `executed.CreateVeth`
OPERATION_POINTS = ("executed", "undone")


def every(operations: Iterable[type]) -> tuple[str, ...]:
    """All names. `operations`: the kinds of host operations (`runtime.records.operation_kinds`)."""
    kinds = sorted(kind.__name__ for kind in operations)
    return (*POINTS, *(f"{point}.{kind}" for point in OPERATION_POINTS for kind in kinds))


class Failpoint:
    """The step that is armed in this process."""

    def __init__(self, setting: str) -> None:
        """Raises ValueError for what is not understood."""
        self.name, self._action, self._marker, *more = setting.split()
        self._left = int(more[0]) if more else 1
        if self._action not in ("kill", "stop", "term", "fail"):
            raise ValueError(f"{VARIABLE}: {setting}: no such action")

    def reach(self, name: str) -> None:
        if name != self.name or self._left < 1:
            return
        self._left -= 1
        if self._left or not self._mark():
            return
        if self._action == "fail":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._marker)
        number = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}[self._action]
        os.kill(os.getpid(), number)

    def _mark(self) -> bool:
        try:
            fd = os.open(f"{self._marker}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        os.write(fd, str(os.getpid()).encode())
        os.close(fd)
        os.link(f"{self._marker}.new", self._marker)  # complete as soon as it is seen
        return True


def _armed(setting: str) -> Failpoint | None:
    return Failpoint(setting) if setting else None


_failpoint = _armed(os.environ.get(VARIABLE, ""))


def reached(point: str, of: object = None) -> None:
    """Passes a name of `POINTS`, or its two halves: `of` is the second one, or the operation whose kind it is.

    Raises OSError where it is to fail.
    """
    if _failpoint is not None:
        half = of if isinstance(of, str) else type(of).__name__
        _failpoint.reach(point if of is None else f"{point}.{half}")


def environment() -> dict[str, str]:
    """What a process that this one starts needs to have the same failpoint."""
    return {VARIABLE: os.environ[VARIABLE]} if _failpoint is not None else {}
