"""Finds a container's image in the store or pulls it (layer 5). The rules are the image store's and the lifecycle's.

Pulls run in threads of their own: no pull waits for another pod's volumes, and only its container waits for a pull.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from minipod.agent.events import PodReference
from minipod.agent.node import Node
from minipod.agent.pods.steps import Step
from minipod.agent.registry.selection import Selection
from minipod.api.types import Pod, Secret
from minipod.errors import ImageError
from minipod.lifecycle import model
from minipod.plan.configs import Image
from minipod.runtime.host_work import look_at_image
from minipod.runtime.offload import Pool, in_pool, slowly_off_loop

if TYPE_CHECKING:
    from minipod.runtime.images.ingest import LayerProgress
    from minipod.runtime.images.registry.credentials import AuthFile

T = TypeVar("T")

THREADS, MAX_THREADS = 32, 512  # those that take longer than offload.STUCK_S do not count among the first
SHOW_EACH_S = 0.2

SECRET_KEYS = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}


@functools.cache
def pool() -> Pool:
    """The threads of pulls: an exiting agent does not wait for a registry."""
    return Pool("pulls", THREADS, MAX_THREADS)


class Wanted(msgspec.Struct, frozen=True):
    """An image that a container cannot start without: its own, or one that it mounts."""

    container: str
    reference: str
    pull_policy: str
    is_volume: bool = False


async def find_image(
    node: Node,
    pod: Callable[[], Pod],
    wanted: Wanted,
    pull_allowed: bool,
    report: Callable[[model.Event], None],
) -> Image:
    """The image. Reports the events that the kubelet's image manager records.

    Raises ImageError with the waiting reason. `pod` returns the current object: a deletion ends the pull.
    """
    images = node.runtime.images
    name, volume = wanted.container, wanted.reference if wanted.is_volume else ""
    image = await look_at_image(wanted.reference, images.present, wanted.reference, wanted.pull_policy)
    if image is not None:
        report(model.ImageReady(name=name, reference=volume))
        return image
    if not pull_allowed:
        raise ImageError(f'Back-off pulling image "{wanted.reference}"', "ImagePullBackOff")
    if images.is_default(wanted.reference) and images.resolve(wanted.reference) is None:
        image = await slowly_off_loop(images.require, wanted.reference)  # builds it
        report(model.ImageReady(name=name, reference=volume))
        return image
    report(model.ImagePulling(name=name, reference=volume))
    secrets = pull_secrets(node, pod())
    stop, shown = threading.Event(), _Shown(node, pod().metadata.uid, wanted)
    fetch = partial(images.fetch, wanted.reference, secrets, shown.note, stop=stop)
    pulling = asyncio.ensure_future(in_pool(pool(), fetch))
    showing = asyncio.ensure_future(shown.publish())
    try:
        pulled = await _unless_deleted(pulling, node, pod)
    finally:
        showing.cancel()
        stop.set()
    took, size = pulled.seconds, pulled.image.size_bytes
    report(model.ImageReady(name=name, reference=volume, present=False, seconds=took, size_bytes=size))
    return pulled.image


class _Shown:
    """How far a pull is, for a `run` that waits for the pod."""

    def __init__(self, node: Node, uid: str, wanted: Wanted) -> None:
        self._node = node
        self._uid = uid
        self._wanted = wanted
        self._layers: dict[str, tuple[str, str, int, int]] = {}

    def note(self, layer: LayerProgress) -> None:
        """Called by the threads of the pull, for each chunk."""
        self._layers[layer.digest] = (layer.digest, layer.state, layer.done_bytes, layer.total_bytes)

    async def publish(self) -> None:
        """Until it is cancelled."""
        before: tuple[tuple[str, str, int, int], ...] = ()
        while True:
            await asyncio.sleep(SHOW_EACH_S)
            layers = tuple(self._layers.copy().values())
            if layers != before and self._node.pod_steps.is_heard(self._uid):
                before = layers
                step = Step(step="pull", message=self._wanted.reference, container=self._wanted.container)
                self._node.pod_steps.publish(self._uid, msgspec.structs.replace(step, layers=layers))


async def _unless_deleted(pulling: asyncio.Future[T], node: Node, pod: Callable[[], Pod]) -> T:
    """The result of `pulling`. Raises ImageError as soon as the pod is to be deleted."""
    deletion = asyncio.ensure_future(_deleted(node, pod))
    try:
        both: set[asyncio.Future[Any]] = {pulling, deletion}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        deletion.cancel()
    if pulling.done():
        return pulling.result()
    pulling.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # its result is not needed any more
    raise ImageError("stopped, as the pod is being deleted")


async def _deleted(node: Node, pod: Callable[[], Pod]) -> None:
    """Returns when the pod is to be deleted."""
    metadata = pod().metadata
    watch = node.history.watch(Selection.of("Pod", namespace=metadata.namespace, name=metadata.name, uid=metadata.uid))
    while not _is_deleted(pod()):
        await watch.changed()


def _is_deleted(pod: Pod) -> bool:
    return pod.metadata.deletion_timestamp is not None


def pull_secrets(node: Node, pod: Pod) -> list[tuple[str, AuthFile]]:
    """The credentials of the pod's imagePullSecrets; records an event for those that are missing (kubelet_pods.go).

    Raises ImageError.
    """
    names = [reference.name for reference in pod.spec.image_pull_secrets if reference.name]
    if not names:
        return []
    from minipod.runtime.images.registry.credentials import parse_legacy_secret, parse_secret

    found, missing = [], []
    for name in names:
        secret = node.registry.find(Secret, pod.metadata.namespace, name)
        data = None if secret is None else secret.data.get(SECRET_KEYS.get(secret.type or "", ""))
        if secret is None or data is None:
            missing.append(name)
            continue
        parse = parse_secret if secret.type == "kubernetes.io/dockerconfigjson" else parse_legacy_secret
        found.append((f"secret {name}", parse(data, f"secret {name}")))
    if missing:
        message = (
            f"Unable to retrieve some image pull secrets ({', '.join(missing)}); "
            "attempting to pull the image may not succeed."
        )
        reference = PodReference(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid)
        node.events.note(reference, "Warning", "FailedToRetrieveImagePullSecret", message, node.clock())
    return found
