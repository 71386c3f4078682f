"""The kubelet's rules 8 to 11 and 14 to 17 (environment, downward API, files, fsGroup, hosts, DNS, hostname, subPath)
as containers on this kernel see them; `tests/unit` has the cases one by one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from minipod.kernel.mount import mount, umount
from tests.node_fixtures import Node
from tests.volume_pods import apply, claim, config_map, pod, run, secret, sh, start, wait_for


def waiting(node: Node, name: str = "p") -> tuple[str, str]:
    """(reason, message) of what the container waits for."""
    status: Any = node.pod(name)["status"]
    statuses = status.get("containerStatuses") or [{"state": {}}]
    state = statuses[0]["state"].get("waiting") or {}
    return state.get("reason", ""), state.get("message", "")


# ---- 8. environment


def test_variables_come_in_the_kubelets_order_and_expand_what_was_declared_before(node: Node) -> None:
    container = {
        "envFrom": [
            {"configMapRef": {"name": "c"}},
            {"prefix": "P_", "configMapRef": {"name": "c"}},
            {"secretRef": {"name": "s"}},
        ],
        "env": [
            {"name": "EARLY", "value": "$(LATE)"},
            {"name": "LATE", "value": "$(a)-$(P_a)-$$(a)-$(open"},
            {"name": "over", "value": "env"},
        ],
        "command": ["sh", "-c", "echo $(a) $0 $1; echo $EARLY $LATE $over $both", "$(LATE)", "$$(a)"],
    }
    binary = {**config_map(a="1", over="map", both="map"), "binaryData": {"raw": "/w=="}}
    out = run(node, binary, secret(both="secret"), pod(container=container)).splitlines()
    assert out == ["1 1-1-$(a)-$(open $(a)", "$(LATE) 1-1-$(a)-$(open env secret"]


def test_a_missing_variable_is_waited_for_with_the_kubelets_words(node: Node) -> None:
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "a"}}}]
    apply(node, pod("p", container={"env": env}))
    wait_for(lambda: waiting(node) == ("CreateContainerConfigError", 'configmap "c" not found'))
    apply(node, config_map(b="2"))
    wait_for(lambda: waiting(node) == ("CreateContainerConfigError", "couldn't find key a in ConfigMap default/c"))
    apply(node, config_map(a="1"))
    wait_for(lambda: node.pod("p")["status"]["phase"] == "Running")  # type: ignore[index]
    assert sh(node, "echo $A") == "1\n"


# ---- 9. downward API


def test_the_downward_api_shows_fields_and_resources_as_variables_and_as_files(node: Node) -> None:
    def field(path: str) -> dict[str, Any]:
        return {"fieldRef": {"fieldPath": path}}

    def resource(name: str, divisor: str) -> dict[str, Any]:
        return {"resourceFieldRef": {"containerName": "c", "resource": name, "divisor": divisor}}

    values = {
        "NAME": field("metadata.name"),
        "LABEL": field("metadata.labels['app']"),
        "NONE": field("metadata.annotations['none']"),
        "IP": field("status.podIP"),
        "CPU": resource("limits.cpu", "1"),
        "MEM": resource("requests.memory", "1Mi"),
    }
    items = [
        {"path": "all", **field("metadata.annotations")},
        {"path": "deep/cpu", "mode": 0o400, **resource("limits.cpu", "1m")},
    ]
    given = pod(
        command='echo $NAME $LABEL [$NONE] $CPU $MEM; ip -4 addr show eth0 | grep -c " $IP/"; cat /d/all /d/deep/cpu; '
        "stat -Lc %a /d/deep/cpu",
        mounts={"d": {"downwardAPI": {"items": items}}},
        container={
            "env": [{"name": name, "valueFrom": source} for name, source in values.items()],
            "resources": {"limits": {"cpu": "250m"}, "requests": {"cpu": "10m", "memory": "5000Ki"}},
        },
    )
    given["metadata"]["annotations"] = {"b": "two\nlines", "a": 'q"'}
    assert run(node, given) == 'p x [] 1 5\n1\na="q\\""\nb="two\\nlines"250400\n'


def test_a_resize_reaches_the_files_of_the_downward_api(node: Node) -> None:
    item = {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}}
    resources = {"limits": {"cpu": "200m"}, "requests": {"cpu": "100m"}}
    start(node, pod(mounts={"d": {"downwardAPI": {"items": [item]}}}, container={"resources": resources}))
    assert sh(node, "cat /d/cpu") == "200"
    node("resize", "pod", "p", "--limits", "cpu=300m")
    wait_for(lambda: sh(node, "cat /d/cpu") == "300", 2)


# ---- 10. files of configMaps, secrets and projections


def test_items_are_files_at_any_depth_and_what_is_optional_comes_and_goes(node: Node) -> None:
    def item(key: str, path: str, **mode: int) -> dict[str, Any]:
        return {"key": key, "path": path, **mode}

    projected = {
        "defaultMode": 0o640,
        "sources": [
            {"configMap": {"name": "c", "items": [item("a", "x/y/a", mode=0o755), item("b", "b")]}},
            {"secret": {"name": "s", "items": [item("pw", "x/pw")]}},
            {"secret": {"name": "none", "optional": True}},
            {"configMap": {"name": "c", "optional": True, "items": [item("no", "no")]}},
        ],
    }  # fmt: skip
    mounts = {"p": {"projected": projected}, "o": {"configMap": {"name": "later", "optional": True}}}
    start(node, config_map(a="1", b="2"), secret(pw="x"), pod(mounts=mounts))
    assert sh(node, "cd /p; find -L . -type f ! -path '*/..*' | sort | xargs stat -Lc '%n %a'; ls /o") == (
        "./b 640\n./x/pw 640\n./x/y/a 755\n"
    )
    assert sh(node, "readlink /p/x") == "..data/x\n"
    assert sh(node, "readlink /p/..data").startswith("..20")
    apply(node, config_map("later", z="1"))
    wait_for(lambda: sh(node, "cat /o/z 2>/dev/null || true") == "1", 2)
    node("delete", "cm", "later")
    wait_for(lambda: sh(node, "ls /o") == "", 2)


def test_a_reader_in_the_container_sees_every_update_whole(node: Node) -> None:
    """Two files of one ConfigMap, read through one descriptor of ..data, are always of the same update."""
    reader = (
        "i=0; while [ ! -e /e/stop ]; do cd -P /cm/..data && a=$(cat a 2>/dev/null) && b=$(cat b 2>/dev/null) && "
        '[ "$a" != "$b" ] && echo torn $a $b; i=$((i+1)); done; echo looked $((i > 5))'
    )
    given = pod(command=reader, mounts={"cm": {"configMap": {"name": "c"}}, "e": {"emptyDir": {}}})
    start(node, config_map(a="0", b="0"), given)
    for number in range(1, 11):
        apply(node, config_map(a=str(number), b=str(number)))
    wait_for(lambda: sh(node, "cat /cm/a") == "10", 2)
    node("exec", "p", "--", "touch", "/e/stop", check=False)  # the container may end before it does, and take it along
    wait_for(lambda: node.pod("p")["status"]["phase"] == "Succeeded")  # type: ignore[index]
    assert node("logs", "p").stdout == "looked 1\n"


# ---- 11. fsGroup


def test_fs_group_is_for_every_volume_of_the_pods_own_and_for_no_other(node: Node, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    mounts = {
        "e": {"emptyDir": {}},
        "m": {"emptyDir": {"medium": "Memory"}},
        "cm": ({"configMap": {"name": "c", "defaultMode": 0o400}}, {}),
        "pr": {"projected": {"sources": [{"secret": {"name": "s"}}]}},
        "dn": {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        "pvc": {"persistentVolumeClaim": {"claimName": "data"}},
        "h": {"hostPath": {"path": str(tmp_path)}},
        "i": {"image": {"reference": "busybox"}},
    }
    context = {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000, "supplementalGroups": [3000]}
    command = (
        "id -G; for v in e m cm pr dn pvc h i; do stat -c '%n %g %a' /$v; done; stat -Lc '%g %a' /cm/a /pr/pw /dn/n; "
        "touch /e/f /m/f /pvc/f && stat -c %g /e/f /m/f /pvc/f"
    )
    out = run(
        node, config_map(a="1"), secret(pw="x"), claim(), pod(command=command, mounts=mounts, securityContext=context)
    )
    lines = out.splitlines()
    assert set(lines[0].split()) == {"1000", "2000", "3000"}
    folders = {name: (group, mode) for name, group, mode in (line.split() for line in lines[1:9])}
    assert {name for name, (group, _) in folders.items() if group == "2000"} == {
        "/e",
        "/m",
        "/cm",
        "/pr",
        "/dn",
        "/pvc",
    }
    assert {folders[name][1][0] for name in ("/e", "/pvc")} == {"2"}  # setgid: what is made there belongs to the group
    assert folders["/h"] == ("0", "755")
    assert lines[9:12] == ["2000 440", "2000 644", "2000 644"]
    assert lines[12:] == ["2000"] * 3
    node("delete", "pvc", "data")
    wait_for(lambda: os.listdir(f"{node.paths.state}/pv") == [])


def test_on_root_mismatch_leaves_a_volume_alone_whose_root_fits(node: Node) -> None:
    mounts = {"data": {"persistentVolumeClaim": {"claimName": "data"}}}
    context = {"fsGroup": 2000, "fsGroupChangePolicy": "OnRootMismatch"}
    look = "stat -c '%g %a' /data /data/f"
    first = pod("one", f"touch /data/f; chgrp 7 /data/f; chmod 600 /data/f; {look}", mounts, securityContext=context)
    assert run(node, claim(), first) == "2000 2777\n7 600\n"
    assert run(node, pod("two", look, mounts, securityContext=context)) == "2000 2777\n7 600\n"
    always = {**context, "fsGroupChangePolicy": "Always"}
    assert run(node, pod("three", look, mounts, securityContext=always)) == "2000 2777\n2000 660\n"
    node("delete", "pvc", "data")
    wait_for(lambda: os.listdir(f"{node.paths.state}/pv") == [])


# ---- 14, 15, 16. hosts, DNS, hostname


def test_names_of_the_pod_are_in_its_files_and_in_the_kernel(node: Node) -> None:
    spec: dict[str, Any] = {
        "hostname": "web",
        "subdomain": "site",
        "setHostnameAsFQDN": True,
        "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["foo.local", "bar"]}],
        "dnsPolicy": "None",
        "dnsConfig": {
            "nameservers": ["192.0.2.1"],
            "searches": ["ns1.svc.example", "my.example"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
        },
    }
    out = run(node, pod(command="hostname; cat /etc/hostname /etc/resolv.conf; tail -n 4 /etc/hosts", **spec))
    fqdn = "web.site.default.svc.cluster.local"
    lines = out.splitlines()
    assert lines[:2] == [fqdn, fqdn]
    assert lines[2:5] == ["search ns1.svc.example my.example", "nameserver 192.0.2.1", "options ndots:2 edns0"]
    assert lines[5].endswith(f"\t{fqdn}\tweb")
    assert lines[6:] == ["", "# Entries added by HostAliases.", "10.1.2.3\tfoo.local\tbar"]


def test_a_hostname_that_is_said_twice_or_is_too_long_follows_the_kubelet(node: Node) -> None:
    long = "a" * 62 + "-b"
    assert run(node, pod(long, "hostname")) == "a" * 62 + "\n"
    assert run(
        node, pod("q", "hostname; grep -c over.ride /etc/hosts", hostname="x", hostnameOverride="over.ride")
    ) == ("over.ride\n2\n")


def test_a_container_may_bring_its_own_hosts_file_and_resolver(node: Node) -> None:
    container = {
        "command": ["cat", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname"],
        "volumeMounts": [
            {"name": "cm", "mountPath": f"/etc/{name}", "subPath": name}
            for name in ("hosts", "resolv.conf", "hostname")
        ],
    }
    given = pod(mounts={"cm": {"configMap": {"name": "c"}}}, container=container)
    own = {"hosts": "my hosts\n", "resolv.conf": "my resolver\n", "hostname": "my name\n"}
    assert run(node, config_map(**own), given) == "my hosts\nmy resolver\nmy name\n"


def test_a_pod_in_the_hosts_network_has_the_hosts_names(node: Node) -> None:
    given = pod(command="hostname; head -1 /etc/hosts; sed 1d /etc/hosts", hostNetwork=True)
    out = run(node, given)
    head, _, rest = out.partition("# Kubernetes-managed hosts file (host network).\n")
    assert head == f"{os.uname().nodename.lower()}\n"
    assert rest == Path("/etc/hosts").read_text()


# ---- 17. subPath


def test_a_sub_path_of_an_image_has_to_be_there(node: Node) -> None:
    source = {"image": {"reference": "busybox"}}
    assert run(node, pod("p", "ls /v/sh; /v/echo runs", {"v": (source, {"subPath": "bin"})})) == "/v/sh\nruns\n"
    apply(node, pod("q", "ls /v", {"v": (source, {"subPath": "not/there"})}))
    wait_for(lambda: waiting(node, "q")[0] == "CreateContainerError")


# ---- and what belongs to no container


def test_a_volume_that_nothing_mounts_holds_nothing_up(node: Node) -> None:
    given = pod(command="echo runs")
    given["spec"]["volumes"] = [{"name": "v", "configMap": {"name": "missing"}}]
    assert run(node, given) == "runs\n"


def test_a_host_path_that_vanishes_is_reported_and_waited_for(node: Node, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    mounts = {"h": {"hostPath": {"path": str(folder), "type": "Directory"}}}
    start(node, pod(command="[ -e /h/stay ] && sleep 1000; sleep 0.5", mounts=mounts, restartPolicy="Always"))
    folder.rmdir()
    wait_for(lambda: waiting(node)[0] == "CreateContainerError")
    assert f"{folder} is not a directory" in waiting(node)[1]
    folder.mkdir()
    (folder / "stay").touch()
    wait_for(lambda: "running" in node.pod("p")["status"]["containerStatuses"][0]["state"], 30)  # type: ignore[index]


def test_a_claim_that_waits_says_why(node: Node) -> None:
    apply(node, claim(storageClassName="fast"), claim("other", volumeName="none"))
    wait_for(lambda: 'storageclass.storage.k8s.io "fast" not found' in node("describe", "pvc", "data").stdout)
    apply(node, pod(mounts={"d": {"persistentVolumeClaim": {"claimName": "data"}}}))
    wait_for(lambda: "pod has unbound immediate PersistentVolumeClaims" in node("events").stdout)
    assert node.pod("p")["status"]["phase"] == "Pending"  # type: ignore[index]
    node("delete", "pod", "p")
    node("delete", "pvc", "data", "other")


def test_a_full_disk_in_the_middle_of_an_update_leaves_the_old_files_and_is_reported(node: Node) -> None:
    pods = f"{node.paths.state}/pods"
    os.mkdir(pods)
    mount("tmpfs", pods, "tmpfs", 0, "size=256k")
    try:
        start(node, config_map(a="1", b="1"), pod(mounts={"cm": {"configMap": {"name": "c"}}}))
        apply(node, config_map(a="2", b="2" * 300_000))
        wait_for(lambda: "No space left on device" in node("events").stdout)
        assert sh(node, "cat /cm/a /cm/b; ls -A /cm | grep -c '^[.][.]2'") == "111\n"
        apply(node, config_map(a="3", b="3"))
        wait_for(lambda: sh(node, "cat /cm/a /cm/b") == "33", 2)
        node("delete", "pod", "p")
    finally:
        umount(pods)


def test_the_claim_of_an_ephemeral_volume_is_its_pods_or_nothing_starts(node: Node) -> None:
    template = {"metadata": {"labels": {"of": "template"}}, "spec": claim()["spec"]}
    volume = {"e": {"ephemeral": {"volumeClaimTemplate": template}}}
    apply(node, claim("p-e"), pod(mounts=volume))
    told = "PVC default/p-e was not created for pod default/p (pod is not owner)"
    wait_for(lambda: told in node("events").stdout)
    node("delete", "pod", "p")
    node("delete", "pvc", "p-e")
    start(node, pod(mounts=volume))
    made: Any = json.loads(node("get", "pvc", "p-e", "-o", "json").stdout)
    assert made["metadata"]["labels"] == {"of": "template"}
    assert [owner["name"] for owner in made["metadata"]["ownerReferences"]] == ["p"]
    node("delete", "pod", "p")
    wait_for(lambda: os.listdir(f"{node.paths.state}/pv") == [])
