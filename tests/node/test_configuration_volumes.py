"""ConfigMaps, Secrets and claims in running pods: what containers see, live updates, what never shows a secret."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from minipod.kernel.mount import MS_BIND, mount, umount
from minipod.plan.volumes.configuration import File
from minipod.runtime import atomic
from tests.node.test_recovery import reboot
from tests.node_fixtures import Node
from tests.volume_pods import apply, claim, config_map, from_secret, manifest, pod, run, secret, sh, start, wait_for

PASSWORD = "correct-horse-battery"


def test_objects_in_any_order_reach_files_and_variables(node: Node) -> None:
    container = {
        "env": [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "a"}}},
            {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}},
            {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "none", "optional": True}}},
            {"name": "BOTH", "value": "$(A)-$(X_b)"},
        ],
        "envFrom": [{"prefix": "X_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "no", "optional": True}}],
    }
    given = pod(
        command="echo $A $P $BOTH ${NONE-unset}; cat /cm/a /se/pw /pr/deep/er /dn/labels; stat -c %a /se/..data/pw; "
        "echo x > /cm/new || echo read-only; grep -c '/se tmpfs' /proc/mounts",
        mounts={
            "cm": {"configMap": {"name": "c"}},
            "se": {"secret": {"secretName": "s", "defaultMode": 0o400}},
            "pr": {
                "projected": {"sources": [{"configMap": {"name": "c", "items": [{"key": "a", "path": "deep/er"}]}}]}
            },
            "dn": {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        },
        container=container,
    )
    out = run(node, given, {"apiVersion": "v1", "kind": "List", "items": [secret(pw="pw1"), config_map(a="1", b="2")]})
    assert out.split("\n")[0] == "1 pw1 1-2 unset"
    assert '1pw11app="x"400' in out.replace("\n", "")
    assert "read-only" in out
    assert out.rstrip().endswith("1")


def test_a_change_is_seen_within_two_seconds_and_a_removed_key_vanishes(node: Node) -> None:
    start(
        node,
        config_map(a="1", b="2"),
        secret(pw="one"),
        pod(
            mounts={
                "cm": {"configMap": {"name": "c"}},
                "se": {"secret": {"secretName": "s"}},
                "sub": ({"configMap": {"name": "c"}}, {"subPath": "a", "mountPath": "/sub"}),
                "dn": {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            }
        ),
    )
    assert sh(node, "cat /cm/a /se/pw /sub") == "1one1"
    apply(node, config_map(a="10"), secret(pw="two"))
    took = wait_for(lambda: sh(node, "cat /cm/a /se/pw; ls /cm") == "10twoa\n", 5)
    assert took < 2
    assert sh(node, "cat /sub") == "1"  # a subPath mount never changes
    changed = pod(
        mounts={
            "cm": {"configMap": {"name": "c"}},
            "se": {"secret": {"secretName": "s"}},
            "sub": ({"configMap": {"name": "c"}}, {"subPath": "a", "mountPath": "/sub"}),
            "dn": {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        }
    )
    changed["metadata"]["labels"] = {"app": "y"}
    assert apply(node, changed) == "pod/p configured\n"
    assert wait_for(lambda: sh(node, "cat /dn/labels") == 'app="y"') < 2
    assert apply(node, changed) == "pod/p unchanged\n"


def test_what_is_missing_is_waited_for(node: Node) -> None:
    mounted = pod("mounted", mounts={"cm": {"configMap": {"name": "c"}}})
    variable = pod(
        "variable", container={"env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}
    )
    apply(node, mounted, variable)

    def waiting() -> bool:
        states = node.pod("variable")["status"].get("containerStatuses", [])  # type: ignore[attr-defined]
        return [one["state"].get("waiting", {}).get("reason") for one in states] == ["CreateContainerConfigError"]

    wait_for(waiting)
    wait_for(lambda: 'configmap "c" not found' in node("events").stdout)
    apply(node, config_map(a="1"), secret(k="v"))
    for name in ("mounted", "variable"):
        wait_for(lambda name=name: node.pod(name)["status"].get("phase") == "Running")  # type: ignore[attr-defined,misc]


def test_an_immutable_object_cannot_change(node: Node) -> None:
    apply(node, config_map(a="1") | {"immutable": True})
    refused = node("apply", "-", input=manifest(config_map(a="2") | {"immutable": True}), check=False)
    assert refused.returncode == 2
    assert "immutable" in refused.stderr
    assert node("delete", "cm", "c").stdout == 'configmap "c" deleted from default namespace\n'


def test_a_secret_is_never_shown_where_it_was_not_asked_for(node: Node) -> None:
    broken = secret("t", pw=PASSWORD) | {"data": {"x": 5}}
    first = node("apply", "-", input=manifest(broken), check=False)
    start(node, secret(pw=PASSWORD), pod(mounts={"se": {"secret": {"secretName": "s"}}}))
    second = node("apply", "-", input=manifest(secret(pw=PASSWORD) | {"type": "kubernetes.io/tls"}), check=False)
    wrong = secret("u") | {"stringData": {}, "data": {"x": PASSWORD + "!"}}
    third = node("apply", "-", input=manifest(wrong), check=False)
    plan = node("plan", "-", input=manifest(secret(pw=PASSWORD), pod("q", container={"env": [from_secret("pw")]})))
    told = [
        *(text for one in (first, second, third, plan) for text in (one.stdout, one.stderr)),
        node("describe", "secret", "s").stdout,
        node("describe", "pod", "p").stdout,
        node("events").stdout,
        Path(node.paths.root, "agent.log").read_text(),
    ]
    assert first.returncode == second.returncode == third.returncode == 2
    for text in told:
        assert PASSWORD not in text
    assert "pw:  21 bytes" in told[8]
    on_disk = [Path(folder, name) for folder, _, names in os.walk(f"{node.paths.state}/pods") for name in names]
    assert os.stat(f"{node.paths.state}/minipod.db").st_mode & 0o777 == 0o600
    assert all("~secret" in str(path) for path in on_disk if PASSWORD in path.read_text(errors="replace"))


def test_fs_group_owns_the_files(node: Node) -> None:
    given = pod(
        command="id -G; stat -L -c '%g %a' /se/pw /cm/a",
        mounts={"se": {"secret": {"secretName": "s", "defaultMode": 0o400}}, "cm": {"configMap": {"name": "c"}}},
        securityContext={"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000},
    )
    out = run(node, config_map(a="1"), secret(pw="x"), given).split("\n")
    assert "2000" in out[0]
    assert out[1:3] == ["2000 440", "2000 644"]


def test_an_env_file_of_an_init_container_is_read(node: Node) -> None:
    given = pod(
        command="echo $A",
        mounts={"e": {"emptyDir": {}}},
        initContainers=[
            {
                "name": "i",
                "image": "busybox",
                "command": ["sh", "-c", "echo \"A='from file'\" > /e/vars"],
                "volumeMounts": [{"name": "e", "mountPath": "/e"}],
            }
        ],
        container={
            "env": [{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "e", "path": "vars", "key": "A"}}}]
        },
    )
    assert "from file" in run(node, given)


def test_data_on_a_claim_outlives_its_pod_and_the_claim_protects_it(node: Node) -> None:
    mounts = {"data": {"persistentVolumeClaim": {"claimName": "data"}}}
    run(node, claim(), pod("one", "echo kept > /data/file", mounts))
    assert run(node, pod("two", "cat /data/file", mounts)) == "kept\n"
    start(node, pod("three", mounts=mounts))
    deletion = node.popen("delete", "pvc", "data")
    try:
        wait_for(lambda: "Terminating" in node("get", "pvc").stdout)
        assert deletion.poll() is None
        node("delete", "pod", "three")
        out, _ = deletion.communicate(timeout=20)
    finally:
        deletion.kill()
    assert 'in use by pod "three"' in out
    assert 'persistentvolumeclaim "data" deleted from default namespace' in out
    wait_for(lambda: os.listdir(f"{node.paths.state}/pv") == [])
    assert node("get", "pv").stdout == ""


def test_a_claim_in_a_later_agent_has_its_data(node: Node) -> None:
    mounts = {"data": {"persistentVolumeClaim": {"claimName": "data"}}}
    start(node, claim(), pod("one", "echo kept > /data/file; sleep 1000", mounts))
    pid = node.agent_pid()
    assert pid is not None
    os.kill(pid, 9)
    assert sh(node, "cat /data/file", "one") == "kept\n"
    node("delete", "pod", "one")
    assert run(node, pod("two", "cat /data/file", mounts)) == "kept\n"
    node("delete", "pvc", "data")
    wait_for(lambda: os.listdir(f"{node.paths.state}/pv") == [])


def test_volumes_of_the_user_are_bound_and_never_removed(node: Node, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "pv"},
        "spec": {
            "capacity": {"storage": "5Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": str(tmp_path)},
            "storageClassName": "manual",
        },
    }
    mounts = {"data": {"persistentVolumeClaim": {"claimName": "data"}}}
    assert run(node, pod("p", "cat /data/file", mounts), claim(storageClassName="manual"), volume) == "mine\n"
    node("delete", "pvc", "data")
    wait_for(lambda: "Released" in node("get", "pv", "pv").stdout)
    node("delete", "pv", "pv")
    assert (tmp_path / "file").read_text() == "mine"


def test_one_pod_at_a_time_uses_a_claim_of_one_pod(node: Node) -> None:
    mounts = {"data": {"persistentVolumeClaim": {"claimName": "data"}}}
    start(node, claim(accessModes=["ReadWriteOncePod"]), pod("one", mounts=mounts))
    apply(node, pod("two", mounts=mounts))
    wait_for(lambda: "ReadWriteOncePod: it is in use" in node("events").stdout)
    node("delete", "pod", "one")
    wait_for(lambda: node.pod("two")["status"].get("phase") == "Running")  # type: ignore[attr-defined]
    node("delete", "pod", "two")
    node("delete", "pvc", "data")


def test_an_ephemeral_volume_goes_with_its_pod(node: Node) -> None:
    template = {"spec": claim()["spec"]}
    given = pod(
        mounts={"e": {"ephemeral": {"volumeClaimTemplate": template}}, "i": {"image": {"reference": "busybox"}}}
    )
    start(node, given)
    assert "p-e" in node("get", "pvc").stdout
    assert sh(node, "touch /e/x; ls /i/bin/sh; touch /i/x 2>&1 | grep -o Read-only") == "/i/bin/sh\nRead-only\n"
    node("delete", "pod", "p")
    wait_for(lambda: node("get", "pvc").stdout == "" and os.listdir(f"{node.paths.state}/pv") == [])


def test_two_pods_with_volumes_of_one_name_share_nothing(node: Node) -> None:
    start(node, pod("one", mounts={"v": {"emptyDir": {}}}), pod("two", mounts={"v": {"emptyDir": {}}}))
    sh(node, "touch /v/mine", "one")
    assert sh(node, "ls /v", "two") == ""


def test_kubectls_create_commands_make_the_same_objects(node: Node, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A")
    (tmp_path / "env").write_text("# x\nK=v\n")
    node(
        "create",
        "configmap",
        "one",
        f"--from-file={tmp_path}/a.txt",
        "--from-literal=l=1",
        f"--from-file=n={tmp_path}/env",
    )
    made = json.loads(node("get", "cm", "one", "-o", "json").stdout)
    assert made["data"] == {"a.txt": "A", "l": "1", "n": "# x\nK=v\n"}
    node("create", "secret", "generic", "two", f"--from-env-file={tmp_path}/env")
    made = json.loads(node("get", "secret", "two", "-o", "json").stdout)
    assert (made["type"], made["data"]) == ("Opaque", {"K": "dg=="})
    again = node("create", "configmap", "one", check=False)
    assert (again.returncode, again.stderr) == (1, 'error: configmaps "one" already exists\n')
    gone = node("delete", "cm/one", "secret/two", "cm/none", check=False)
    assert gone.returncode == 1
    assert 'configmaps "none" not found' in gone.stderr


def test_nested_mounts_may_be_written_in_any_order(node: Node) -> None:
    given = pod(
        command="ls /a /a/b; cat /a/b/f; touch /a/x /a/b/c/y",
        mounts={
            "deepest": ({"emptyDir": {}}, {"mountPath": "/a/b/c"}),
            "cm": ({"configMap": {"name": "c"}}, {"mountPath": "/a/b/f", "subPath": "f"}),
            "inner": ({"emptyDir": {}}, {"mountPath": "/a/b"}),
            "outer": ({"emptyDir": {}}, {"mountPath": "/a"}),
        },
    )
    assert run(node, config_map(f="1"), given) == "/a:\nb\n\n/a/b:\nc\nf\n1\n"


def test_a_sub_path_expression_makes_a_folder_of_its_own(node: Node) -> None:
    given = pod(
        command="touch /v/x; ls /w",
        mounts={"v": ({"emptyDir": {}}, {"subPathExpr": "logs/$(NAME)"})},
        container={"env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
    )
    given["spec"]["containers"][0]["volumeMounts"].append({"name": "v", "mountPath": "/w", "subPath": "logs/p"})
    assert run(node, given) == "x\n"


def test_a_mebibyte_of_bytes_reaches_a_file_as_it_is(node: Node, tmp_path: Path) -> None:
    data = os.urandom(1 << 20)[: (1 << 20) - 100]
    (tmp_path / "blob").write_bytes(data)
    node("create", "configmap", "c", f"--from-file={tmp_path}/blob")
    digest = hashlib.sha256(data).hexdigest()
    given = pod(command="sha256sum < /cm/blob", mounts={"cm": {"configMap": {"name": "c"}}})
    assert run(node, given).split()[0] == digest


def test_a_folder_of_the_host_bound_into_a_volume_is_not_removed_with_it(node: Node, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    start(node, pod(mounts={"v": {"emptyDir": {}}}))
    (volume,) = Path(node.paths.state, "pods").glob("*/volumes/*/v")
    (volume / "bound").mkdir()
    mount(str(tmp_path), str(volume / "bound"), None, MS_BIND)
    try:
        deletion = node.popen("delete", "pod", "p", "--now")
        wait_for(lambda: "is a mount point" in node("events").stdout)
        assert deletion.poll() is None
        assert (tmp_path / "precious").exists()
    finally:
        umount(str(volume / "bound"))
    deletion.communicate(timeout=20)
    assert (tmp_path / "precious").exists()


def test_a_disk_that_is_full_in_the_middle_leaves_the_old_files(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount("tmpfs", str(small), "tmpfs", 0, "size=64k")
    try:
        atomic.write(str(small), {"a": File(b"1", 0o644)})
        with pytest.raises(OSError, match="No space"):
            atomic.write(str(small), {"a": File(b"2" * 100_000, 0o644)})
        assert (small / "a").read_text() == "1"
        assert len(os.listdir(small)) == 3
    finally:
        umount(str(small))


def test_volumes_of_a_pod_that_nobody_knows_are_unmounted_by_gc(node: Node, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    volumes = Path(node.paths.state, "pods", "gone", "volumes")
    for name in ("kubernetes.io~secret/s", "kubernetes.io~local-volume/d"):
        (volumes / name).mkdir(parents=True)
    mount("tmpfs", str(volumes / "kubernetes.io~secret" / "s"), "tmpfs", 0, "size=64k")
    mount(str(tmp_path), str(volumes / "kubernetes.io~local-volume" / "d"), None, MS_BIND)
    node("gc")
    assert not volumes.parent.exists()
    assert (tmp_path / "precious").exists()


def test_an_image_that_a_volume_shows_is_not_removed(node: Node) -> None:
    given = pod(mounts={"i": {"image": {"reference": "busybox"}}})
    given["spec"]["containers"][0]["image"] = "dir:/nowhere"  # so that only the volume needs it
    apply(node, given)
    wait_for(lambda: "kubernetes.io~image/i" in Path("/proc/self/mountinfo").read_text())
    refused = node("image", "rm", "busybox", check=False)
    assert refused.returncode == 1
    assert "in use by the volume" in refused.stderr


def test_after_a_reboot_volumes_are_there_again_with_what_they_held(node: Node) -> None:
    mounts = {
        "data": {"persistentVolumeClaim": {"claimName": "data"}},
        "se": {"secret": {"secretName": "s"}},
        "e": {"emptyDir": {}},
    }
    given = pod("p", "date +%s%N >> /data/starts; touch /e/x; sleep 1000", mounts, restartPolicy="Always")
    start(node, claim(), secret(pw="x"), given)
    reboot(node)  # before it, everything is killed
    (mounted,) = Path(node.paths.state, "pods").glob("*/volumes/kubernetes.io~secret/se")
    umount(str(mounted))
    (held,) = Path(node.paths.state, "pods").glob("*/volumes/kubernetes.io~local-volume/data")
    umount(str(held))
    wait_for(lambda: node.pod("p")["status"]["containerStatuses"][0]["ready"], 30)  # type: ignore[index]
    wait_for(lambda: sh(node, "cat /se/pw; ls /e; wc -l < /data/starts") == "xx\n2\n", 30)
    node("delete", "pod", "p")
    node("delete", "pvc", "data")
    wait_for(lambda: os.listdir(f"{node.paths.state}/pv") == [])


def test_fs_group_is_given_the_data_on_a_claim(node: Node) -> None:
    mounts = {"data": {"persistentVolumeClaim": {"claimName": "data"}}}
    run(node, claim(), pod("one", "mkdir /data/d; echo x > /data/d/f; chmod 600 /data/d/f; ln -s /etc /data/l", mounts))
    context = {"runAsUser": 1000, "fsGroup": 2000}
    given = pod("two", "cat /data/d/f; stat -c '%g %a' /data/d/f; touch /data/d/new", mounts, securityContext=context)
    assert run(node, given) == "x\n2000 660\n"
    node("delete", "pvc", "data")
    wait_for(lambda: os.listdir(f"{node.paths.state}/pv") == [])
