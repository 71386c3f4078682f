"""The lifecycle's values (layer 4): state, events, actions. Decides nothing.

The pure core (`lifecycle.core.step`) turns `(state, event, now)` into a new state and actions; the agent's worker
saves the state, carries the actions out and sends back what came of them as events. Names and meanings are the
kubelet's: a `Run` is what it calls a container's runtime status.

All times are seconds since the epoch, on a clock that is never set (the worker's, `agent.steady`), but for those that
are shown: those of a `Run` and of a `Resizing`, and all text. `ahead_s`: by how much the wall clock is ahead of it.

The contract with the worker (all four in `lifecycle.core`):

    new_state(pod, now, *, max_backoff_s=300.0, assigned=True) -> PodState
    step(state, event, now, ahead_s=0.0) -> tuple[PodState, tuple[Action, ...]]
    next_wakeup(state) -> float | None
    pod_status(state, facts) -> PodStatus               # facts: plan.configs.HostFacts

* Actions of one step are begun in their order and may run at the same time; each is answered by the events named in
  its docstring. Events are fed one at a time. A late or repeated event (another container id, another attempt) is
  ignored by the core, so the worker need not filter.
* At most one `StartContainer` of a pod is under way (the kubelet starts containers one after the other), while
  `KillContainer` can come at any time, also again for the same container with a shorter grace period: then the
  shorter one counts and both may run on.
* After every step: save `state`, notify watchers when `state.status` changed, sleep until `next_wakeup(state)` at most,
  then send `Tick`.
* A new agent decodes the state and sends `AgentStarted` with what the runtime found; the core continues from there.
"""

from __future__ import annotations

import msgspec

from minipod.api.types import Pod, PodStatus, ResourceRequirements
from minipod.lifecycle.values import BackOff, FailedPull, Kill, ProbeState, Resizing, SetCondition, User, Value, Waiting

EVICTED = "Evicted"  # the reason of a pod that took more of the node than it may


# --- state ------------------------------------------------------------


class Run(Value, frozen=True, kw_only=True):
    """One instance of a container, as the runtime has it. `state`: created | running | exited | unknown.

    `attempt` is the restart count it was made with. `exit_code` is 128+n for an end by signal n. `signal` only where
    the runtime knows it. Times are the wall clock's, 0 where there is none yet; `ahead_s`: by how much it was ahead of
    the lifecycle's when the last of them was taken.
    """

    id: str
    attempt: int = 0
    state: str = "created"
    active: bool = True  # it belongs to the current sandbox
    spec_image: str = ""  # as the manifest said when it was made
    image: str = ""  # as the runtime calls it
    image_id: str = ""
    pid: int = 0
    user: User | None = None
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    ahead_s: float = 0.0
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    resources: ResourceRequirements | None = None  # that it was made with or resized to; None: not known

    @property
    def began(self) -> float:
        """When it started, in the lifecycle's time; of a running one."""
        return self.started_at - self.ahead_s

    @property
    def ended(self) -> float:
        """When it ended, in the lifecycle's time."""
        return self.finished_at - self.ahead_s


class ContainerState(Value, frozen=True, kw_only=True):
    """One container of the spec: its current and its previous instance, and what is known about its starts."""

    run: Run | None = None
    previous: Run | None = None
    backoff: BackOff | None = None  # CrashLoopBackOff
    waiting: Waiting | None = None
    attempts: int = 0  # instances ever made: the next one's restart count
    probes: dict[str, ProbeState] = {}  # startup | liveness | readiness
    post_start_done: bool = True
    post_start_error: str | None = None  # the hook failed: the container is being ended for it
    kill: Kill | None = None


class Sandbox(Value, frozen=True, kw_only=True):
    """`state`: none | creating | ready | stopping | stopped. `id` empty where none was made yet."""

    state: str = "none"
    id: str = ""
    attempt: int = 0
    ips: tuple[str, ...] = ()


class Pass(Value, frozen=True, kw_only=True):
    """One pass under way (a kubelet's syncPod): what it has still to do, and what came of it so far.

    It ends with the agent: a new one begins with a pass of its own (`recovery`).
    """

    kill_pod: bool = False  # all containers are ended, then the sandbox
    create_sandbox: bool = False  # then a new one is made
    queue: tuple[str, ...] = ()  # containers to start, in this order
    starting: str = ""  # the container whose StartContainer (or postStart hook) is under way
    restarted: tuple[str, ...] = ()  # containers ended to be restarted in it
    made_sandbox: bool = False
    killed: bool = False  # a container was ended, or ended while it was started
    failed: bool = False  # something failed
    backoff_until: float | None = None  # the earliest end of a back-off that it met


class PodState(Value, frozen=True, kw_only=True):
    """All that the core remembers of one pod. JSON-serialisable; the store keeps it after every step.

    `pod`: spec and metadata (with deletionTimestamp and deletionGracePeriodSeconds once deletion was asked for).
    `status`: the v1 status as it was published last; `pod_status` adds the node's addresses to it.
    `stage`: gated | unscheduled (no node for it yet) | syncing | terminating (containers are being ended) | terminated
    (tearing down) | finished (nothing of it is left on the host, the object stays) | gone (`Forget` was sent).
    `published`: grows by one whenever `status` or the pod's metadata or spec changed.
    """

    pod: Pod
    status: PodStatus
    stage: str = "syncing"
    added_at: float
    published: int = 0
    max_backoff_s: float = 300.0
    volumes: str = "none"  # none | setting-up | ready
    sandbox: Sandbox = Sandbox()
    containers: dict[str, ContainerState] = {}  # by name: init, main and ephemeral
    pulls: dict[str, FailedPull] = {}  # by image
    phase: str = "Pending"  # as it follows from the containers; `status.phase` turns terminal only when all have ended
    current_pass: Pass | None = None
    changed: bool = False  # since the last pass began: another one follows
    failures: int = 0  # passes that failed, since the last start that worked
    pass_at: float | None = None  # the next pass, where no event comes before
    publish_at: float | None = None  # when the status is published again without a pass
    restart_all: bool = False  # RestartAllContainers is under way, over two passes
    removed_all: bool = False  # it has removed all containers; not published yet
    initialized: bool = False  # when its containers began to be ended: main containers were to be started, or were
    resizing: Resizing = Resizing()
    evicted_reason: str = ""  # DeadlineExceeded …
    evicted_message: str = ""
    start_time: float | None = None  # when the status was first published: status.startTime, in the lifecycle's time
    volume_failures: int = 0
    retry_at: float | None = None  # volumes or tearing down failed: try again then
    halted: bool = False  # the node stops its pods: what runs is ended, nothing is started
    halt_grace_s: float | None = None  # at most so long; None: the pod's own grace period

    @property
    def starting(self) -> str:
        """The container whose start the pass waits for; empty without one."""
        return self.current_pass.starting if self.current_pass is not None else ""


# --- events: what the worker reports ------------------------------------------------------------


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag=True):
    """Base of all events."""


class PodAdded(Event, frozen=True, kw_only=True):
    """The first event of a pod (after `new_state`). `scheduled`: the scheduler chose its node, not the manifest."""

    scheduled: bool = True


class Unscheduled(Event, frozen=True, kw_only=True):
    """The scheduler found no node. `message`: its words. `hint`: the same with numbers. `hopeless`: that other pods end
    does not change it."""

    message: str
    hint: str = ""
    hopeless: bool = False


class Scheduled(Event, frozen=True, kw_only=True):
    """The scheduler has assigned a pod that waited for it."""

    node_name: str


class Rejected(Event, frozen=True, kw_only=True):
    """The node that it is assigned to does not admit the pod: it fails. `reason`: OutOfcpu …"""

    reason: str
    message: str


class AgentStarted(Event, frozen=True, kw_only=True):
    """A new agent took the pod over. What was under way is lost, this is what the runtime has.

    `runs`: the instances found, by container name; a container that is not in it is no longer known to the runtime.
    `sandbox_id` empty or `sandbox_ready` false (a reboot): a new sandbox is made. `max_backoff_s`: as configured now.
    """

    sandbox_id: str = ""
    sandbox_ready: bool = False
    ips: tuple[str, ...] = ()
    runs: dict[str, Run] = {}
    max_backoff_s: float = 300.0
    halted: bool = False  # see NodeHalted


class NodeHalted(Event, frozen=True, kw_only=True):
    """The node stops its pods, as before a shutdown, each container within `grace_s`, or lets them run again."""

    halted: bool = True
    grace_s: float | None = None


class PodUpdated(Event, frozen=True, kw_only=True):
    """The object was changed: gates removed, a deadline set, an ephemeral container added. Metadata and spec count."""

    pod: Pod


class ResizeAsked(Event, frozen=True, kw_only=True):
    """Requests or limits of cpu and memory were changed. `reason`: why they were not admitted, such as OutOfcpu."""

    pod: Pod
    reason: str = ""
    message: str = ""


class ResizeDone(Event, frozen=True, kw_only=True):
    """Answers ResizePod. `resized`: ids of the containers that have what is allocated. `message`: of a failure."""

    resized: tuple[str, ...] = ()
    message: str = ""


class ConditionsSet(Event, frozen=True, kw_only=True):
    """A client has set them, with one update."""

    conditions: tuple[SetCondition, ...]


class VolumesReady(Event, frozen=True, kw_only=True):
    pass


class VolumesFailed(Event, frozen=True, kw_only=True):
    """`message` becomes the event FailedMount; tried again."""

    message: str


class Evict(Event, frozen=True, kw_only=True):
    """The pod takes more of the node than it may: it ends as Failed, reason Evicted."""

    message: str


class SourcesChanged(Event, frozen=True, kw_only=True):
    """Something that the pod's volumes or variables are taken from came or changed: what failed is tried at once."""


class SandboxReady(Event, frozen=True, kw_only=True):
    id: str
    ips: tuple[str, ...] = ()


class SandboxFailed(Event, frozen=True, kw_only=True):
    message: str


class SandboxStopped(Event, frozen=True, kw_only=True):
    """Answers StopSandbox; also sent when a sandbox died by itself (then containers end too)."""

    id: str


class ImagePulling(Event, frozen=True, kw_only=True):
    """Only where something really has to be fetched. `reference`: of an image volume; empty: the container's image."""

    name: str
    reference: str = ""


class ImageReady(Event, frozen=True, kw_only=True):
    """`present`: it was there already. Otherwise `seconds` and `size_bytes` are those of the pull."""

    name: str
    reference: str = ""
    present: bool = True
    seconds: float = 0.0
    size_bytes: int = 0


class ImageFailed(Event, frozen=True, kw_only=True):
    """Ends StartContainer. `reason`: ErrImagePull, ErrImageNeverPull, InvalidImageName, ImageInspectError …, or
    ImagePullBackOff where a fetch was necessary and the action did not allow it."""

    name: str
    reason: str
    message: str
    reference: str = ""


class ContainerCreated(Event, frozen=True, kw_only=True):
    """`image`, `image_id`: the reference and the digest reference, for status.image and status.imageID."""

    name: str
    container_id: str
    image: str = ""
    image_id: str = ""


class ContainerCreateFailed(Event, frozen=True, kw_only=True):
    """Ends StartContainer. `reason`: CreateContainerConfigError | CreateContainerError."""

    name: str
    reason: str
    message: str


class ContainerStarted(Event, frozen=True, kw_only=True):
    """Ends StartContainer."""

    name: str
    container_id: str
    pid: int
    at: float
    user: User | None = None
    image_id: str = ""


class ContainerStartFailed(Event, frozen=True, kw_only=True):
    """Ends StartContainer: created, but could not be started. It has ended: StartError, exit code 128."""

    name: str
    container_id: str
    at: float
    message: str
    exit_code: int = 128
    reason: str = "StartError"


class ContainerExited(Event, frozen=True, kw_only=True):
    """It ended, by itself or killed. `message`: the termination message, found by the container's
    terminationMessagePolicy. `reason`: Completed | Error | OOMKilled | ContainerStatusUnknown."""

    name: str
    container_id: str
    exit_code: int
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: float = 0.0
    finished_at: float


class ContainerKillFailed(Event, frozen=True, kw_only=True):
    """KillContainer failed; it is tried again."""

    name: str
    container_id: str
    message: str


class HookDone(Event, frozen=True, kw_only=True):
    """Answers RunHook. `hook`: postStart | preStop."""

    name: str
    container_id: str
    hook: str
    ok: bool
    message: str = ""


class ProbeResult(Event, frozen=True, kw_only=True):
    """One probe was made. `kind`: startup | liveness | readiness. `result`: success | warning | failure | error.

    An error (the probe could not be made) becomes an event and counts for nothing.
    """

    name: str
    container_id: str
    kind: str
    result: str
    message: str = ""


class DeleteRequested(Event, frozen=True, kw_only=True):
    """`grace_period_s` None: the pod's own. A second one can only shorten. 0: KILL without a stop signal before it."""

    grace_period_s: int | None = None


class TornDown(Event, frozen=True, kw_only=True):
    """Answers TearDown."""


class TearDownFailed(Event, frozen=True, kw_only=True):
    message: str


class Tick(Event, frozen=True, kw_only=True):
    """The time of `next_wakeup` has come (or earlier; harmless)."""


# --- actions: what the worker does ------------------------------------------------------------


class Action(msgspec.Struct, frozen=True, kw_only=True, tag_field="action", tag=True):
    """Base of all actions."""


class SetUpVolumes(Action, frozen=True, kw_only=True):
    """→ VolumesReady | VolumesFailed"""


class CreateSandbox(Action, frozen=True, kw_only=True):
    """→ SandboxReady | SandboxFailed. An older sandbox of the pod is removed first, its containers too."""

    attempt: int


class StartContainer(Action, frozen=True, kw_only=True):
    """Find the image (fetch it where `pull_allowed`), create, start.

    → [ImagePulling] ImageReady | ImageFailed; ContainerCreated | ContainerCreateFailed;
    ContainerStarted | ContainerStartFailed. `kind`: init | main | ephemeral. `attempt`: the restart count, which also
    names the log file and the container's directory.
    """

    name: str
    kind: str
    attempt: int
    pull_allowed: bool = True
    no_pull: tuple[str, ...] = ()  # images of its volumes that must not be fetched yet


class KillContainer(Action, frozen=True, kw_only=True):
    """The stop signal, `grace_s` seconds, then KILL → ContainerExited | ContainerKillFailed."""

    name: str
    container_id: str
    grace_s: float


class RunHook(Action, frozen=True, kw_only=True):
    """Run lifecycle.postStart or .preStop in (or against) a running container → HookDone.

    `timeout_s`: a preStop hook is given up after it (None: postStart has no limit); the core continues by itself then.
    """

    name: str
    container_id: str
    hook: str
    timeout_s: float | None = None


class ResizePod(Action, frozen=True, kw_only=True):
    """Give the pod's cgroup and those of all running containers what is allocated → ResizeDone"""


class RemoveContainer(Action, frozen=True, kw_only=True):
    """Remove an ended container that a newer instance replaced; the log stays. No answer."""

    name: str
    container_id: str


class StopSandbox(Action, frozen=True, kw_only=True):
    """→ SandboxStopped"""

    id: str


class TearDown(Action, frozen=True, kw_only=True):
    """Remove everything but logs and the object: containers, sandbox, volumes, cgroup → TornDown | TearDownFailed"""


class RecordEvent(Action, frozen=True, kw_only=True):
    """Record a v1 Event about the pod; equal ones are aggregated by the recorder. `type`: Normal | Warning."""

    type: str
    reason: str
    message: str
    field_path: str = ""  # spec.containers{name}
    component: str = "kubelet"


class Forget(Action, frozen=True, kw_only=True):
    """The object is to be removed from the store, and the pod's logs. The last action of a pod."""
