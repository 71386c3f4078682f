"""Claims and PersistentVolumes (layer 5): binds, provisions and reclaims them; finds the volumes of a pod's claims.

Does the work of Kubernetes' volume binder, provisioner and protection controllers; which volume fits is decided in
`plan.volumes.claims`. Each pass looks at all claims and volumes: on one host these are few, and no state of its own can
get lost in a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

import msgspec

from minipod.agent.events import PodReference
from minipod.agent.node import Node
from minipod.agent.pods.table import Pods
from minipod.agent.pods.worker import PodWorker
from minipod.agent.registry.history import Change
from minipod.agent.registry.selection import Selection
from minipod.agent.registry.unsaved import SAVE_AGAIN_S
from minipod.api.kinds import PERSISTENT_VOLUME_CLAIM
from minipod.api.timestamps import timestamp
from minipod.api.types import ObjectMeta, OwnerReference, PersistentVolume, PersistentVolumeClaim, Pod, Volume
from minipod.errors import MinipodError, VolumeError
from minipod.kernel.remove import remove_tree
from minipod.plan.volumes import claims as plan
from minipod.plan.volumes.sources import FoundSources
from minipod.runtime.offload import slowly_off_loop

log = logging.getLogger("minipod.agent")

_ONE_POD = "ReadWriteOncePod"


class Claims:
    """The controller of one agent; `run` runs until it is cancelled."""

    def __init__(self, node: Node, pods: Pods) -> None:
        self._node = node
        self._registry = node.registry
        self._pods = pods
        self._removing: set[str] = set()
        self._reported: dict[str, plan.Pending] = {}  # by a claim's uid: the last reported reason for its being pending
        self._tasks: set[asyncio.Task[None]] = set()
        self.trouble = ""  # why the last pass was not completed

    async def run(self) -> None:
        """Reconciles whenever a claim, a volume or a pod was created, changed or deleted, and again after a failure."""
        watch = self._node.history.watch(Selection.of("PersistentVolumeClaim", "PersistentVolume", "Pod"))
        self._look()
        while True:
            changes = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAVE_AGAIN_S if self.trouble else None):
                    changes = await watch.changed()
            if changes is None or any(map(_may_matter, changes)):
                self._look()

    def _look(self) -> None:
        try:
            self.reconcile()
        except MinipodError as error:
            if str(error) != self.trouble:
                log.error("claims: %s", error)
            self.trouble = str(error)
        else:
            self.trouble = ""

    # -- binding and reclaiming ---------------------------------------------------------------------------------

    def reconcile(self) -> None:
        """Binds the claims that can be bound, removes deleted ones that no pod uses. Raises HostError."""
        for claim in self._registry.all(PersistentVolumeClaim):
            self._drop_orphan(claim)
        for claim in self._registry.all(PersistentVolumeClaim):
            if claim.metadata.deletion_timestamp is not None:
                if not self.users(claim):
                    self._registry.remove(claim)
            elif claim.status.phase != "Bound":
                self._bind(claim)
            else:
                self._grow(claim)
        for volume in self._registry.all(PersistentVolume):
            self._settle(volume)

    def _bind(self, claim: PersistentVolumeClaim) -> None:
        volumes = self._registry.all(PersistentVolume)
        volume = plan.best_volume(claim, volumes)
        made = plan.provisioned(claim, self._node.paths.state) if volume is None else None
        if volume is None and made is None:
            self._report_pending(claim, plan.why_pending(claim, volumes))
            return
        # An agent that dies in the middle must not leave a volume that no claim has, under the next one's name.
        with self._node.store.transaction():
            if made is not None:
                volume = self._registry.create(made)
                message = f"Successfully provisioned volume {made.metadata.name}"
                self._record_event(claim, "Normal", "ProvisioningSucceeded", message)
            assert volume is not None
            new_claim, new_volume = plan.bound(claim, volume)
            self._registry.replace(self._now(new_volume, volume), volume)
            self._registry.replace(new_claim, claim)
        self._reported.pop(claim.metadata.uid, None)

    def _grow(self, claim: PersistentVolumeClaim) -> None:
        volume = self._registry.find(PersistentVolume, "", claim.spec.volume_name)
        both = None if volume is None else plan.grown(claim, volume)
        if volume is not None and both is not None:
            with self._node.store.transaction():
                self._registry.replace(both[1], volume)
                self._registry.replace(both[0], claim)

    def _report_pending(self, claim: PersistentVolumeClaim, why: plan.Pending) -> None:
        """Records an event, unless the reason is the one that was reported last."""
        if self._reported.get(claim.metadata.uid) != why:
            self._reported[claim.metadata.uid] = why
            self._record_event(claim, *why)

    def _record_event(
        self, thing: PersistentVolumeClaim | PersistentVolume, kind: str, reason: str, message: str
    ) -> None:
        metadata = thing.metadata
        subject = PodReference(metadata.namespace or "default", metadata.name, metadata.uid, kind=thing.kind)
        self._node.events.record(
            subject, kind, reason, message, self._node.clock(), component="persistentvolume-controller"
        )

    def _now(self, new: PersistentVolume, old: PersistentVolume) -> PersistentVolume:
        """`new`, with the time of the transition where its phase is another than that of `old`."""
        if new.status.phase == old.status.phase:
            return new
        status = msgspec.structs.replace(new.status, last_phase_transition_time=timestamp(self._node.clock()))
        return msgspec.structs.replace(new, status=status)

    def _settle(self, volume: PersistentVolume) -> None:
        """Sets the phase that follows from its claim; removes or reclaims a released volume."""
        claim = self._claim_of(volume)
        if claim is not None and claim.spec.volume_name == volume.metadata.name:
            if volume.status.phase != "Bound":
                self._set_phase(volume, "Bound")
            return
        reference = volume.spec.claim_ref
        released = reference is not None and bool(reference.uid)
        if released and volume.spec.persistent_volume_reclaim_policy == "Delete":
            self._reclaim(volume)
        elif released and volume.spec.persistent_volume_reclaim_policy == "Recycle":
            self._fail(volume, "VolumeFailedRecycle", "No recycler plugin found for the volume! (use Retain or Delete)")
        elif volume.metadata.deletion_timestamp is not None:
            self._registry.remove(volume)
        else:
            self._set_phase(volume, "Released" if released else "Available")

    def _claim_of(self, volume: PersistentVolume) -> PersistentVolumeClaim | None:
        reference = volume.spec.claim_ref
        if reference is None:
            return None
        claim = self._registry.find(PersistentVolumeClaim, reference.namespace, reference.name)
        return claim if claim is not None and reference.uid in ("", claim.metadata.uid) else None

    def _set_phase(self, volume: PersistentVolume, phase: str, message: str = "") -> None:
        if (volume.status.phase, volume.status.message) == (phase, message):
            return
        status = msgspec.structs.replace(volume.status, phase=phase, message=message)
        self._registry.replace(self._now(msgspec.structs.replace(volume, status=status), volume), volume)

    def _reclaim(self, volume: PersistentVolume) -> None:
        """Reclaim policy Delete: removes what minipod provisioned; volumes that the user provided are never removed."""
        name = volume.metadata.name
        if not plan.is_provisioned(volume):
            why = "only directories that minipod made are deleted: delete the volume, and its data by hand"
            self._fail(volume, "VolumeFailedDelete", why)
            return
        if name not in self._removing:
            self._removing.add(name)
            self._set_phase(volume, "Released")
            task = self._remove_folder(name, f"{self._node.paths.state}/pv/{name}")
            self._tasks.add(running := asyncio.get_running_loop().create_task(task))
            running.add_done_callback(self._tasks.discard)

    def _fail(self, volume: PersistentVolume, reason: str, why: str) -> None:
        """The volume's phase becomes Failed and its data stays; a volume that is being deleted is removed."""
        if volume.metadata.deletion_timestamp is not None:
            self._registry.remove(volume)
            return
        if volume.status.phase != "Failed":
            self._record_event(volume, "Warning", reason, why)
        self._set_phase(volume, "Failed", why)

    async def _remove_folder(self, name: str, path: str) -> None:
        message = ""
        try:
            await slowly_off_loop(remove_tree, path)
        except OSError as error:
            message = f"{path}: {error.strerror or error}"
            log.error("persistentvolume %s: %s", name, message)
        self._removing.discard(name)
        volume = self._registry.find(PersistentVolume, "", name)
        if volume is None:
            return
        if message:
            self._set_phase(volume, "Failed", message)
        else:
            self._registry.remove(volume)

    # -- users and owners ---------------------------------------------------------------------------------------

    def users(self, claim: PersistentVolumeClaim) -> list[PodWorker]:
        """The pods that use the claim and have not ended."""
        return [
            worker
            for worker in self._pods.select(claim.metadata.namespace, None)
            if worker.state.stage not in ("gated", "unscheduled", "finished", "gone")
            and claim.metadata.name in plan.claims_of(worker.state.pod)
        ]

    def _drop_orphan(self, claim: PersistentVolumeClaim) -> None:
        """Deletes the claim of a generic ephemeral volume whose pod is gone."""
        owner = next((owner for owner in claim.metadata.owner_references if owner.kind == "Pod"), None)
        if owner is not None and self._pods.by_uid(owner.uid) is None:
            metadata = claim.metadata
            self._registry.delete(PERSISTENT_VOLUME_CLAIM, metadata.namespace, metadata.name)

    # -- a pod's volumes ----------------------------------------------------------------------------------------

    def lack(self, pod: Pod) -> str:
        """Why a pod with these claims cannot be assigned to a node (volumebinding podHasPVCs); `""` if it can.

        A claim that is not there yet may become bound by looking: as a pod's own manifest may contain it.
        """
        names = [
            v.persistent_volume_claim.claim_name for v in pod.spec.volumes if v.persistent_volume_claim is not None
        ]
        if not names:
            return ""
        self._look()
        unbound = False
        for name in names:
            claim = self._registry.find(PersistentVolumeClaim, pod.metadata.namespace, name)
            if claim is None:
                return f'persistentvolumeclaim "{name}" not found'
            if claim.status.phase == "Lost":
                return (
                    f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{claim.spec.volume_name}"'
                )
            if claim.metadata.deletion_timestamp is not None:
                return f'persistentvolumeclaim "{name}" is being deleted'
            unbound = unbound or claim.status.phase != "Bound"
        return "pod has unbound immediate PersistentVolumeClaims" if unbound else ""

    async def sources(self, pod: Pod) -> FoundSources:
        """The volumes of a pod's claims, once all are bound. Raises VolumeError."""
        volumes: dict[str, PersistentVolume] = {}
        for volume in pod.spec.volumes:
            if volume.ephemeral is not None:
                self._make_ephemeral(pod, volume)
        if plan.claims_of(pod):
            self.reconcile()
        for volume in pod.spec.volumes:
            name = plan.claim_name(pod, volume)
            if name:
                volumes[volume.name] = self._volume_of(pod, name)
        return FoundSources(volumes)

    def _volume_of(self, pod: Pod, name: str) -> PersistentVolume:
        claim = self._registry.find(PersistentVolumeClaim, pod.metadata.namespace, name)
        if claim is None:
            raise VolumeError(f'persistentvolumeclaim "{name}" not found')
        if claim.metadata.deletion_timestamp is not None:
            raise VolumeError(f'persistentvolumeclaim "{name}" is being deleted')
        if claim.status.phase != "Bound":
            why = plan.why_pending(claim, self._registry.all(PersistentVolume))
            raise VolumeError(f'persistentvolumeclaim "{name}" is not bound: {why.message}')
        users = [worker for worker in self.users(claim) if worker.uid != pod.metadata.uid]
        others = [worker for worker in users if worker.state.volumes != "none"]
        if _ONE_POD in claim.spec.access_modes and others:
            raise VolumeError(
                f'persistentvolumeclaim "{name}": access mode {_ONE_POD}: it is in use by pod "{others[0].name}"'
            )
        volume = self._registry.find(PersistentVolume, "", claim.spec.volume_name)
        if volume is None:
            raise VolumeError(f'persistentvolumeclaim "{name}": its volume {claim.spec.volume_name} is lost')
        return volume

    def _make_ephemeral(self, pod: Pod, volume: Volume) -> None:
        template = volume.ephemeral.volume_claim_template if volume.ephemeral is not None else None
        if template is None:
            raise VolumeError(f'volume "{volume.name}": ephemeral without volumeClaimTemplate')
        metadata, name = pod.metadata, plan.claim_name(pod, volume)
        known = self._registry.find(PersistentVolumeClaim, metadata.namespace, name)
        if known is not None:
            if all(owner.uid != metadata.uid for owner in known.metadata.owner_references):
                space = metadata.namespace
                why = f"PVC {space}/{name} was not created for pod {space}/{metadata.name} (pod is not owner)"
                raise VolumeError(why)
            return
        owner = OwnerReference(
            api_version="v1", kind="Pod", name=metadata.name, uid=metadata.uid, controller=True,
            block_owner_deletion=True,
        )  # fmt: skip
        claim = PersistentVolumeClaim(
            metadata=ObjectMeta(
                name=name,
                namespace=metadata.namespace,
                labels=template.metadata.labels,
                annotations=template.metadata.annotations,
                owner_references=(owner,),
            ),
            spec=template.spec,
        )
        self._registry.create(plan.admitted(claim))


def _may_matter(change: Change) -> bool:
    """True of every change of a claim or a volume, and of a pod that has ended or is gone: it frees its claims."""
    if change.kind != "Pod" or change.type == "DELETED":
        return True
    return change.new.status.phase in ("Succeeded", "Failed")
