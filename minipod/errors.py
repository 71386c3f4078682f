"""The exception tree (layer 0). What a user sees of an error is `str(error)`: one line, lower case.

MinipodError                exit status 3, FAILURE, unless another is named
 ├─ ManifestError           the input is wrong; exit status 2; `.errors` lists what and where
 │   ├─ InvalidError        an object's fields are wrong; `.causes` has them one by one
 │   └─ PatchError          a patch is wrong or does not fit the object; `.code` is the API server's HTTP status
 ├─ UsageError              the command line is wrong; exit status 2
 ├─ NotFoundError           no such object; exit status 1
 ├─ ConflictError           it was changed by others, or is in use; exit status 1
 │   └─ AlreadyExistsError  the name is taken
 ├─ ExpiredError            a watch cannot start or continue from its resourceVersion: list again; exit status 1
 ├─ HostError               this host cannot do it: no root, a missing kernel feature
 ├─ AgentError              the agent cannot be reached or started
 └─ RuntimeFailure          the kernel or the store refused; `.reason` is Kubernetes' waiting reason
     ├─ SandboxError        reason FailedCreatePodSandBox
     ├─ VolumeError         reason FailedMount
     ├─ ImageError          reason ErrImagePull, ErrImageNeverPull, InvalidImageName …
     └─ ContainerError      reason CreateContainerConfigError, CreateContainerError, RunContainerError
"""

from __future__ import annotations

SUCCESS, NEGATIVE, WRONG, FAILURE, INTERRUPTED, NO_READER = 0, 1, 2, 3, 130, 141

#: exit status of a command -> when: docs/cli.md has this table. `exec`, `attach` and `run` also give that of what ran
EXIT_STATUSES: dict[int, str] = {
    SUCCESS: "it worked",
    NEGATIVE: "the answer is no: not found, exists already, in use, not true in time; a container failed; "
    "`check` or `image verify` found something",
    WRONG: "the command line or a manifest is wrong: nothing was done",
    FAILURE: "the host, the agent or the runtime failed",
    126: "`exec`: the command cannot be executed",
    127: "`exec`: there is no such command in the container",
    INTERRUPTED: "interrupted: Ctrl-C",
    NO_READER: "the reader of the output has gone (SIGPIPE)",
}


def utf8(text: str) -> str:
    """Text that can be stored and sent: a path in it need not be UTF-8, and a container may have chosen its name."""
    return text.encode(errors="backslashreplace").decode()


class MinipodError(Exception):
    """Base of all errors that minipod raises on purpose."""

    exit_status = FAILURE

    def __init__(self, message: object = "") -> None:
        super().__init__(utf8(str(message)))


class ManifestError(MinipodError):
    """The manifest is wrong. `errors` holds every finding, each with its place."""

    exit_status = WRONG

    def __init__(self, message: str, errors: list[object] | None = None) -> None:
        super().__init__(message)
        self.errors = errors or []


class InvalidError(ManifestError):
    """An object is not valid. `causes`: (type, field, message) of each fault, Kubernetes' words."""

    def __init__(self, message: str, errors: list[object], causes: tuple[tuple[str, str, str], ...]) -> None:
        super().__init__(message, errors)
        self.causes = causes


class PatchError(ManifestError):
    """A patch is wrong, or does not fit the object. `code`: the HTTP status that an API server answers with."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class UsageError(MinipodError):
    exit_status = WRONG


class NotFoundError(MinipodError):
    exit_status = NEGATIVE


class ConflictError(MinipodError):
    exit_status = NEGATIVE


class AlreadyExistsError(ConflictError):
    pass


class ExpiredError(MinipodError):
    exit_status = NEGATIVE


class HostError(MinipodError):
    pass


class AgentError(MinipodError):
    pass


class RuntimeFailure(MinipodError):  # noqa: N818 - RuntimeError is Python's own
    """Carries Kubernetes' waiting reason, as the pod's status will show it."""

    reason = "RunContainerError"

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class SandboxError(RuntimeFailure):
    reason = "FailedCreatePodSandBox"


class VolumeError(RuntimeFailure):
    reason = "FailedMount"


class ImageError(RuntimeFailure):
    reason = "ErrImagePull"


class ContainerError(RuntimeFailure):
    reason = "RunContainerError"
