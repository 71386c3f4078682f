"""The pods' network (layer 3): subnets, leases, the part that all pods share. `plan.network.pod_network` has the
operations.

The shared part (nftables table, first bridge, forwarding, the answerer) is made with the first lease and removed with
the last, another bridge with the first and the last of its pods; the leases are the reference count, so that it is
right after a crash too. All is done under the lock of the lease file.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from ipaddress import ip_address

import msgspec

from minipod.config import Config
from minipod.errors import HostError
from minipod.failpoint import reached
from minipod.kernel import netlink, nft
from minipod.kernel.error_text import text_of
from minipod.kernel.host_lock import host_lock
from minipod.kernel.port import is_bound
from minipod.names.table import Gone, Pod
from minipod.paths import Paths
from minipod.plan.configs import NetworkFacts, SandboxConfig
from minipod.plan.network.forwarding import is_bridge
from minipod.plan.network.nat import AddPortMappings, exists
from minipod.plan.network.pod_network import bridge_network, shared_network
from minipod.plan.operation import HostOperation
from minipod.runtime.ipam import Lease, LeaseFile, Leases, check_ports, grant, revoke
from minipod.runtime.names import Names
from minipod.runtime.subnets import choose

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Network:
    """One instance's network. Synchronous, for a thread: a call takes a few milliseconds, more where the host has many
    rules or links, and may wait for the lock of another instance. One call at a time."""

    def __init__(
        self,
        paths: Paths,
        config: Config,
        warn: Callable[[str], None] | None = None,
        on_names: Callable[[], None] = lambda: None,
    ) -> None:
        """`warn` gets messages for the user, each once: another subnet was chosen, no IPv6 …

        `on_names`: called, on a thread, when the answerer was started.
        """
        self._paths = paths
        self._config = config
        self._file = LeaseFile(paths.root)
        self._warn = warn or logging.getLogger(__name__).warning
        self._warn_now = self._warn
        self._warnings: set[str] = set()
        self._generation: int | None = None  # of the host's rules, when the instance's table was last seen
        self._names = Names(paths, config.cluster_domain, on_names)

    def lease(self, config: SandboxConfig, warn: Callable[[str], None] | None = None) -> NetworkFacts:
        """Addresses and an interface name for a sandbox, and the shared part in place. Idempotent.

        `warn`: replaces the constructor's for warnings about this lease.
        With the host's network only the hostPorts are noted, so that no other pod takes them; the facts are empty.
        Raises SandboxError: a hostPort is in use, no address is left; HostError: no subnet is free, no nftables.
        """
        self._warn_now = warn or self._warn
        try:
            return self._lease(config)
        finally:
            self._warn_now = self._warn

    def _lease(self, config: SandboxConfig) -> NetworkFacts:
        ports = tuple(mapping for mapping in config.port_mappings if mapping.host_port)
        wanted = Lease(pod=f"{config.namespace}/{config.name}", ports=ports)
        on_host = config.namespaces.network == "node"
        wanted = msgspec.structs.replace(wanted, names=on_host and config.dns.answerer)
        if on_host and not ports and not wanted.names:
            return NetworkFacts()
        with self._file.locked() as leases:
            held = leases.sandboxes.get(config.id)
            if held is None:
                check_ports(leases, config.id, ports)
                if not on_host:
                    self._warn_of_loopback(wanted)
                    self._warn_of_listeners(wanted)
            if on_host:
                return self._lease_on_host(leases, config.id, wanted)
            leases = self._with_shared(leases)
            if held is not None:
                facts = self._facts(leases, held)
                self._ensure_bridge(facts)
                return facts
            with self._alone(leases):
                return self._grant(leases, config.id, wanted)

    def _lease_on_host(self, leases: Leases, sandbox_id: str, wanted: Lease) -> NetworkFacts:
        """Its hostPorts are noted; the shared part stands where it asks the answerer."""
        if wanted.names:
            leases = self._with_shared(leases)
        granted = msgspec.structs.replace(leases, sandboxes={**leases.sandboxes, sandbox_id: wanted})
        with self._alone(leases) if wanted.names else nullcontext():
            self._file.write_one(granted, sandbox_id)
        return self._facts_on_host(granted, wanted)

    def _grant(self, leases: Leases, sandbox_id: str, wanted: Lease) -> NetworkFacts:
        reached("network.shared")
        interface = interface_name(self._paths.instance, sandbox_id, _interfaces(leases))
        leases, held = grant(leases, sandbox_id, msgspec.structs.replace(wanted, interface=interface))
        facts = self._facts(leases, held)
        self._ensure_bridge(facts)
        reached("network.bridged")
        self._file.write_one(leases, sandbox_id)
        reached("network.leased")
        return facts

    def _ensure_bridge(self, facts: NetworkFacts) -> None:
        """It stands when this returns; where that failed there is none, or the one of other pods as it was."""
        if not netlink.exists(facts.bridge):
            _execute([bridge_network(facts)])

    def release(self, sandbox_id: str) -> None:
        """Release a sandbox's lease, after its operations were undone; with the last lease the shared part is removed.

        Idempotent.
        """
        if not os.path.exists(f"{self._paths.root}/leases"):
            return
        with self._file.locked() as leases:
            if sandbox_id not in leases.sandboxes:
                return
            self._drop(leases, [sandbox_id])

    def facts(self, sandbox_id: str) -> NetworkFacts | None:
        """The facts of a sandbox's lease, None without one."""
        leases = self._file.read()
        held = leases.sandboxes.get(sandbox_id)
        if held is None or not (held.offset or held.names):
            return None
        return self._facts(leases, held) if held.offset else self._facts_on_host(leases, held)

    def keep_names(self) -> None:
        """While a pod has an address the answerer runs, and its questions get there. Raises HostError, OSError."""
        if not os.path.exists(f"{self._paths.root}/leases"):
            return
        with self._file.locked() as leases:
            if leases.is_addressed:
                self._mend(leases)

    def publish_names(self, changes: Sequence[Pod | Gone], whole: bool = False) -> None:
        """What the answerer answers from. Raises OSError."""
        self._names.publish(changes, whole=whole)

    def preview(self, config: SandboxConfig) -> NetworkFacts:
        """What `lease` would return, without root and without a lease: for `plan`.

        With these facts `shared_network`, `bridge_network` and `pod_network` return what would be done.
        """
        if config.namespaces.network == "node" and not config.dns.answerer:
            return NetworkFacts()
        try:
            leases = self._file.read()
        except PermissionError:
            leases = Leases()
        leases = choose(leases, self._config, self._paths.instance, self._warn_once)
        if config.namespaces.network == "node":
            return self._facts_on_host(leases, Lease(pod=config.name, names=True))
        interface = interface_name(self._paths.instance, config.id, _interfaces(leases))
        leases, held = grant(leases, config.id, Lease(pod=config.name, interface=interface))
        return self._facts(leases, held)

    def leftovers(self, sandbox_ids: Callable[[], Collection[str]]) -> list[str]:
        """Resources of this instance that no sandbox owns: leases, interfaces, bridges, the shared part. For `gc`, a
        line each.

        `sandbox_ids` is called under the lock; it has to include sandboxes that are about to lease.
        """
        with self._file.locked() as leases:
            return self._leftovers(leases, sandbox_ids(), _links())

    def _leftovers(self, leases: Leases, sandbox_ids: Collection[str], links: list[netlink.Link]) -> list[str]:
        found = [
            f"lease of {lease.pod} (sandbox {sandbox_id[:12]})"
            for sandbox_id, lease in leases.sandboxes.items()
            if sandbox_id not in sandbox_ids
        ]
        owned = {held: lease for held, lease in leases.sandboxes.items() if held in sandbox_ids}
        interfaces = {lease.interface for lease in owned.values()}
        rest = msgspec.structs.replace(leases, sandboxes=owned)
        found += [f"interface {name}" for name in self._veths(links) if name not in interfaces]
        found += [f"bridge {name}" for name in self._needless_bridges(links, rest)]
        if not rest.is_addressed and self._names.is_there():
            found.append("process that answers DNS questions")
        if not rest.is_addressed:
            with nft.Nftables() as nftables:
                if exists(nftables, self._paths.instance):
                    found.append(f"nftables table inet {self._paths.instance}")
        return found

    def remove_leftovers(self, sandbox_ids: Callable[[], Collection[str]]) -> list[str]:
        """Remove them. Returns the same lines."""
        with self._file.locked() as leases:
            known = sandbox_ids()
            links = _links()
            found = self._leftovers(leases, known, links)
            owned = {lease.interface for held, lease in leases.sandboxes.items() if held in known}
            for name in self._veths(links):
                if name not in owned:
                    netlink.remove_link(name)
            stale = [held for held in leases.sandboxes if held not in known]
            self._unmap(leases, stale)
            if found:
                self._remove_bridges(links, self._drop(leases, stale))
        return found

    def _drop(self, leases: Leases, sandbox_ids: Sequence[str]) -> Leases:
        """The leases without those of these sandboxes, as they are in the file now."""
        rest = leases
        for sandbox_id in sandbox_ids:
            rest = revoke(rest, sandbox_id)
        for number in {leases.bridge(leases.sandboxes[sandbox_id].offset) for sandbox_id in sandbox_ids}:
            if number and not rest.needs_bridge(number):
                netlink.remove_link(self._paths.bridge(number))
        if not rest.is_addressed:
            self._undo_shared(leases)
            reached("network.unshared")
        if len(sandbox_ids) == 1:
            self._file.write_one(rest, sandbox_ids[0])
        else:
            self._file.write(rest)
        reached("network.released")
        return rest

    def _unmap(self, leases: Leases, sandbox_ids: Iterable[str]) -> None:
        """Remove the hostPorts of sandboxes whose own list of operations is lost."""
        for operation in self._mappings(leases, sandbox_ids):
            operation.undo()

    # ---- the shared part --------------------------------------------------------------------------------------------

    def _with_shared(self, leases: Leases) -> Leases:
        """The leases with subnets. Makes the shared part for the first pod, repairs it for others if need be."""
        if leases.is_addressed:
            self._mend(leases)
            return leases
        leases = self._made(leases)
        with self._alone(leases):
            self._ensure_names(leases)
        return leases

    @contextmanager
    def _alone(self, leases: Leases) -> Iterator[None]:
        """Where the block fails the shared part goes, unless other pods have it."""
        try:
            yield
        except BaseException as error:
            if not leases.is_addressed:
                try:
                    self._undo_shared(leases)
                except (OSError, HostError) as failure:
                    error.add_note(f"cleaning up: {failure}")
            raise

    def _made(self, leases: Leases) -> Leases:
        """The leases with subnets, with what they share newly made."""
        # No other instance chooses a subnet until the bridge exists, whose routes it then sees.
        with host_lock():
            self._remove_bridges(_links(), leases)  # a crash may have left it all, with other subnets
            self._undo_shared(leases)
            leases = choose(leases, self._config, self._paths.instance, self._warn_once)
            _execute(self._shared(leases))
        self._warn_of_policies()
        return leases

    def _remove_bridges(self, links: list[netlink.Link], leases: Leases) -> None:
        for name in self._needless_bridges(links, leases):
            netlink.remove_link(name)

    def _mend(self, leases: Leases) -> None:
        """Restore what another program removed, as a firewall does by `flush ruleset`; hostPorts too."""
        flushed = self._is_flushed()
        if flushed or not netlink.exists(self._paths.bridge(0)):
            for operation in self._shared(leases):
                operation.execute()
        if flushed:
            for mappings in self._mappings(leases, leases.sandboxes):
                mappings.execute()
        self._ensure_names(leases, flushed)

    def _ensure_names(self, leases: Leases, flushed: bool = False) -> None:
        """The answerer runs. Where it was switched off it stays for the pods that have its address."""
        if not self._config.answers_names and not self._names.is_there():
            return
        try:
            self._names.ensure(leases.names, leases.subnets, flushed)
        except OSError as error:
            raise HostError(f"the process that answers DNS questions cannot be started: {text_of(error)}") from error

    def _is_flushed(self) -> bool:
        """Whether the table is gone; looked up only where the host's rules have changed since the last call."""
        generation = nft.generation()
        if generation == self._generation:
            return False
        with nft.Nftables() as nftables:
            found = exists(nftables, self._paths.instance)
        self._generation = generation if found else None
        return not found

    def _mappings(self, leases: Leases, sandbox_ids: Iterable[str]) -> list[AddPortMappings]:
        operations = []
        for sandbox_id in sandbox_ids:
            held = leases.sandboxes[sandbox_id]
            if held.offset and held.ports:
                facts = self._facts(leases, held)
                operations.append(
                    AddPortMappings(
                        table=facts.table,
                        ipv4=facts.ipv4.partition("/")[0],
                        ipv6=facts.ipv6.partition("/")[0],
                        mappings=held.ports,
                    )
                )
        return operations

    def _undo_shared(self, leases: Leases) -> None:
        failure: Exception | None = None
        try:
            self._names.stop()
        except OSError as error:
            failure = error
        for operation in reversed(self._shared(leases)):
            try:
                operation.undo()
                reached("undone", operation)
            except (OSError, HostError) as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _shared(self, leases: Leases) -> list[HostOperation]:
        return shared_network(self._facts(leases, Lease(pod="", offset=2)))

    def _facts(self, leases: Leases, held: Lease) -> NetworkFacts:
        ipv4, ipv6 = leases.addresses(held.offset)
        ipv4_gateway, ipv6_gateway = (cidr.partition("/")[0] for cidr in leases.gateways(held.offset))
        return NetworkFacts(
            subnets=leases.subnets,
            ipv4=ipv4,
            ipv4_gateway=ipv4_gateway,
            ipv6=ipv6,
            ipv6_gateway=ipv6_gateway,
            bridge=self._paths.bridge(leases.bridge(held.offset)),
            table=self._paths.instance,
            host_interface=held.interface,
            mtu=leases.mtu,
            names=self._names_at(leases),
        )

    def _facts_on_host(self, leases: Leases, held: Lease) -> NetworkFacts:
        """Those of a pod on the host's network."""
        return NetworkFacts(names=self._names_at(leases)) if held.names else NetworkFacts()

    def _names_at(self, leases: Leases) -> str:
        """The one address in the pods' resolv.conf: a second of the same process would only be asked in vain."""
        return leases.names[0] if self._config.answers_names and leases.names else ""

    def _needless_bridges(self, links: list[netlink.Link], leases: Leases) -> list[str]:
        """The bridges of this instance that no lease is on, recognised by their names."""
        bridges = [link.name for link in links if is_bridge(self._paths.instance, link.name)]
        numbers = (int(name[len(self._paths.instance) :]) for name in bridges)
        return [name for name, number in zip(bridges, numbers, strict=True) if not leases.needs_bridge(number)]

    def _veths(self, links: list[netlink.Link]) -> list[str]:
        """The outer veth ends of this instance, recognised by their names."""
        length = len(self._paths.instance) + 7
        return [
            link.name
            for link in links
            if link.kind == "veth" and len(link.name) == length and link.name.startswith(self._paths.instance)
        ]

    # ---- warnings ---------------------------------------------------------------------------------------------------

    def _warn_once(self, message: str) -> None:
        if message not in self._warnings:
            self._warnings.add(message)
            self._warn_now(message)

    def _warn_of_loopback(self, wanted: Lease) -> None:
        for port in wanted.ports:
            if port.host_ip and ip_address(port.host_ip) == ip_address("::1"):
                self._warn_once(
                    f"pod {wanted.pod}: hostPort [::1]:{port.host_port} leads nowhere: "
                    "Linux forwards nothing to ::1: use hostIP 127.0.0.1 or an address of the host"
                )

    def _warn_of_listeners(self, wanted: Lease) -> None:
        for port in wanted.ports:
            if is_bound(port.protocol, port.host_ip, port.host_port):
                self._warn_once(
                    f"pod {wanted.pod}: hostPort {port.host_port}/{port.protocol}: a process of this host listens at "
                    "that port: it gets nothing while the pod has it: choose another hostPort"
                )

    def _warn_of_policies(self) -> None:
        """Another program's table that drops by default (Docker's, ufw's) also drops what pods send."""
        pods = f"iifname '{self._paths.instance}*' accept"
        with nft.Nftables() as nftables:
            forward = nftables.drops("forward")
            to_host = nftables.drops("input") if self._config.answers_names else []
        for chain in forward:
            self._warn_once(
                f"nftables chain {chain} drops forwarded packets by default: pods may not reach the outside unless it "
                f"accepts them: nft insert rule {chain} {pods}; nft insert rule {chain} o{pods[1:]}"
            )
        for chain in to_host:
            self._warn_once(
                f"nftables chain {chain} drops what is sent to this host by default: pods may get no answer to DNS "
                f"questions unless it accepts them: nft insert rule {chain} {pods}; or set names = false"
            )


def interface_name(instance: str, sandbox_id: str, taken: Collection[str]) -> str:
    """<instance> and seven letters or digits of the sandbox id's checksum: at most 15 bytes (IFNAMSIZ), not `taken`."""
    for salt in range(len(taken) + 1):
        number = zlib.crc32(f"{sandbox_id}{salt or ''}".encode())
        name = ""
        for _ in range(7):
            number, digit = divmod(number, 36)
            name = _DIGITS[digit] + name
        if instance + name not in taken:
            return instance + name
    raise HostError(f"no interface name is free for sandbox {sandbox_id}")


def _links() -> list[netlink.Link]:
    with netlink.Netlink() as socket:
        return socket.links()


def _interfaces(leases: Leases) -> set[str]:
    return {lease.interface for lease in leases.sandboxes.values()}


def _execute(operations: Iterable[HostOperation]) -> None:
    """All of them or, with an error, none."""
    done: list[HostOperation] = []
    try:
        for operation in operations:
            done.append(operation)
            operation.execute()
            reached("executed", operation)
    except BaseException as error:
        _undo(done, error)
        raise


def _undo(done: list[HostOperation], error: BaseException) -> None:
    """Undo in reverse order; failures become notes of the first error."""
    for operation in reversed(done):
        try:
            operation.undo()
        except (OSError, HostError) as failure:
            error.add_note(f"cleaning up: {failure}")
