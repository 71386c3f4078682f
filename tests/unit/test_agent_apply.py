"""`apply` and `run` with force, replace, prune, dry runs and field validation, as a client of the socket sees them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from tests.unit.agent_client import MANIFEST, Agent, with_agent
from tests.unit.agent_fakes import until

OTHER = MANIFEST.replace('"1000"', '"2000"')


def config_map(name: str, label: str = "a", value: str = "v") -> str:
    meta = f"{{name: {name}, labels: {{app: {label}}}}}"
    return f"{{apiVersion: v1, kind: ConfigMap, metadata: {meta}, data: {{k: {value}}}}}\n"


async def ask(agent: Agent, text: str, verb: str = "apply", **request: Any) -> list[str]:
    """`applied web created`, `deleted web`, `warning …`, and last the error, if any."""
    events = await agent.ask(verb=verb, files=[{"name": "pod.yaml", "text": text}], **request)
    shown = []
    for event in events[:-1]:
        words = (event.get(key) for key in ("event", "name", "result", "message"))
        shown.append(" ".join(word for word in words if word))
    return shown + ([events[-1]["error"]["message"]] if "error" in events[-1] else [])


def uid(agent: Agent) -> str:
    return agent.pods.find("default", "web").uid


def command(agent: Agent) -> tuple[str, ...]:
    found: tuple[str, ...] = agent.pods.find("default", "web").pod.spec.containers[0].command
    return found


def test_what_cannot_be_changed_names_the_field_and_what_to_type(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await ask(agent, MANIFEST)
        for mode in ("apply", "replace"):
            (error,) = await ask(agent, OTHER, mode=mode)
            assert "spec.containers[0].command: cannot be changed in a pod that exists" in error
            assert error.endswith(f"start the new one: minipod {mode} --force -f pod.yaml")
        (invalid,) = await ask(agent, MANIFEST.replace("name: web", "name: web, labels: {a b: c}"))
        assert "--force" not in invalid

    with_agent(tmp_path, test)


def test_force_ends_the_pod_and_starts_the_new_one_only_where_it_must(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        assert await ask(agent, MANIFEST, force=True) == ["applied web created"]
        first = uid(agent)
        await until(lambda: agent.runtime.is_running("main"))
        assert await ask(agent, MANIFEST.replace("name: web", "name: web, labels: {a: b}"), force=True) == [
            "applied web configured"
        ]
        assert uid(agent) == first, "an update was possible"
        agent.runtime.log.clear()
        assert await ask(agent, OTHER, force=True, grace_period=5) == ["applied web configured"]
        assert (uid(agent) != first, command(agent)) == (True, ("sleep", "2000"))
        assert "stop_container 5" in agent.runtime.log
        await until(lambda: agent.runtime.is_running("main"))
        assert await ask(agent, MANIFEST, mode="replace", force=True) == ["deleted web", "applied web replaced"]
        assert command(agent) == ("sleep", "1000")
        assert "stop_container 30" in agent.runtime.log, "the pod's own grace period"
        await agent.ask(verb="delete", names=["web"])
        assert await ask(agent, MANIFEST, mode="replace", force=True) == ["applied web replaced"]

    with_agent(tmp_path, test)


def test_force_replaces_pods_with_what_they_use_and_never_for_an_invalid_manifest(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        text = f"{MANIFEST}---\n{config_map('c')}"
        await ask(agent, text)
        first = uid(agent)
        (error,) = await ask(agent, f"{text}---\n{config_map('B')}", mode="replace", force=True)
        assert "metadata.name" in error
        assert uid(agent) == first
        assert await ask(agent, text, mode="replace", force=True) == [
            "deleted web", "deleted c", "applied c replaced", "applied web replaced",
        ]  # fmt: skip

    with_agent(tmp_path, test)


def test_a_forced_replacement_is_given_up_when_the_time_is_up(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await ask(agent, MANIFEST)
        await until(lambda: agent.runtime.is_running("main"))
        agent.runtime.stop_takes_s = 25
        (error,) = await ask(agent, OTHER, mode="replace", force=True, timeout_s=2)
        assert error.startswith('timed out: pod "web" is not gone after 2 s (--timeout)')
        await until(lambda: not len(agent.pods))

    with_agent(tmp_path, test)


def test_prune_deletes_what_was_applied_with_the_labels_and_is_written_no_more(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await ask(agent, "---\n".join([config_map("a"), config_map("b"), config_map("other", "x"), MANIFEST]))
        await ask(agent, config_map("made"), mode="create")
        kept, prune = config_map("a"), {"selector": "app=a"}
        await ask(agent, config_map("saved"), mode="create", save_config=True)
        assert await ask(agent, kept, prune=prune, dry_run=True) == [
            "applied a unchanged", "applied b pruned", "applied saved pruned",
        ]  # fmt: skip
        assert await ask(agent, kept, prune=prune) == [
            "applied a unchanged",
            "applied b pruned",
            "applied saved pruned",
        ]
        assert await ask(agent, kept, prune={"kinds": ["core/v1/Pod"]}, wait=True) == [
            "applied a unchanged", "applied web pruned",
        ]  # fmt: skip
        assert not len(agent.pods)
        assert await ask(agent, kept, prune={}) == ["applied a unchanged", "applied other pruned"]
        (error,) = await ask(agent, kept, prune={"kinds": ["apps/v1/Deployment"]})
        assert error.startswith("--prune-allowlist apps/v1/Deployment: minipod has core/v1/Namespace")

    with_agent(tmp_path, test)


def test_a_selector_leaves_the_other_objects_of_the_files_alone(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        text = f"{config_map('a')}---\n{config_map('b', 'x')}"
        assert await ask(agent, text, selector="app=x") == ["applied b created"]
        assert await ask(agent, text, selector="app=none") == ["no object in pod.yaml has the labels app=none"]

    with_agent(tmp_path, test)


def test_a_dry_run_answers_with_the_object_and_stores_nothing(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        files = [{"name": "f", "text": MANIFEST.replace("name: web", "generateName: web-")}]
        for verb, more in (("apply", {"mode": "create"}), ("run", {})):
            shown = (await agent.ask(verb=verb, files=files, dry_run=True, objects=True, **more))[0]
            thing = shown["object"]
            assert thing["metadata"]["name"] == shown["name"]
            assert (len(shown["name"]), bool(thing["metadata"]["uid"]), thing["spec"]["dnsPolicy"]) == (
                9, True, "ClusterFirst",
            )  # fmt: skip
        assert await ask(agent, MANIFEST, "run", dry_run=True) == ["applied web created"]
        assert not len(agent.pods)
        assert agent.node.store.objects("Pod") == []
        await ask(agent, MANIFEST)
        assert (await ask(agent, MANIFEST, "run", dry_run=True))[0].startswith('pod "web" already exists')
        assert await ask(agent, OTHER, "run", dry_run=True, replace=True) == ["applied web created"]

    with_agent(tmp_path, test)


def test_unknown_fields_are_errors_warnings_or_nothing(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        text = MANIFEST.replace("spec:", "spec:\n  foo: 1")
        for verb, more in (("apply", {}), ("run", {"detach": True, "until": "created"})):
            (error,) = await ask(agent, text, verb, **more)
            assert error.startswith("pod.yaml:6:3: spec.foo: unknown field")
            assert (await ask(agent, text, verb, validation="warn", **more))[0].startswith("warning spec.foo: unknown")
            await agent.ask(verb="delete", names=["web"])
            assert not [line for line in await ask(agent, text, verb, validation="ignore", **more) if "foo" in line]
            await agent.ask(verb="delete", names=["web"])

    with_agent(tmp_path, test)


def test_run_replaces_pods_of_the_same_name_when_they_are_gone(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.run_detached()
        first = uid(agent)
        shown = await ask(agent, OTHER, "run", replace=True, detach=True)
        assert shown[0] == "deleted web"
        assert (uid(agent) != first, command(agent)) == (True, ("sleep", "2000"))
        assert agent.runtime.is_running("main")

    with_agent(tmp_path, test)


def test_a_pod_that_is_owned_ends_with_the_client_s_process(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await ask(agent, MANIFEST, mode="create", owned=True)
        assert list(agent.node.store.owners()) == [uid(agent)]
        await asyncio.sleep(5)
        assert len(agent.pods) == 1, "this process is the client and lives"

    with_agent(tmp_path, test)


def test_events_hold_whole_objects_only_where_they_are_wanted(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        files = [{"name": "f", "text": MANIFEST}]
        plain, whole = [(await agent.ask(verb="apply", files=files, objects=wanted))[0] for wanted in (False, True)]
        assert ("object" in plain, whole["result"], whole["object"]["metadata"]["uid"]) == (
            False,
            "unchanged",
            uid(agent),
        )
        assert msgspec.json.encode(whole)

    with_agent(tmp_path, test)
