"""Every option of every verb, and how its effect is shown: `test_options.py` walks this table.

`VERB OPTION` -> a command line, and what the option adds to it: both are run against a fake agent, and what is asked,
printed or the exit status must differ. Or a file of tests that uses the option, for what a fake agent cannot show.
"""

from __future__ import annotations

#: a command line and the words that the option adds; `{folder}` holds pod.yaml and deeper/pod.yaml
Shown = tuple[str, str]

_SELECTED = {
    "--selector": "-l app=db",
    "--field-selector": "--field-selector metadata.name=db",
    "--all-namespaces": "-A",
}
_FORMATS = {
    "--output": ("", "-o json"),
    "--template": ("-o go-template={{.kind}}", "--template {{.metadata.name}}"),
    "--allow-missing-template-keys": ("-o go-template={{.nope}}", "--allow-missing-template-keys=false"),
}

_RUN = "run web --image i"


def _formats(verb: str, line: str) -> dict[str, Shown]:
    rows = {f"{verb} {option}": (f"{line} {before}", words) for option, (before, words) in _FORMATS.items()}
    return {**rows, f"{verb} --template": (line, "--template {{.metadata.name}}")}


def _keys(verb: str) -> dict[str, Shown]:
    line = f"{verb} pod web a=b"
    return {
        **_formats(verb, line),
        **{f"{verb} {option}": (f"{verb} pods a=b --all", words) for option, words in _SELECTED.items()},
        f"{verb} --selector": (f"{verb} pods a=b", "-l app=db"),
        f"{verb} --field-selector": (f"{verb} pods a=b", "--field-selector metadata.name=db"),
        f"{verb} --all": (f"{verb} pods a=b", "--all"),
        f"{verb} --overwrite": (line, "--overwrite"),
        f"{verb} --list": (line, "--list"),
        f"{verb} --resource-version": (line, "--resource-version 7"),
        f"{verb} --filename": (f"{verb} a=b", "-f {folder}/pod.yaml"),
        f"{verb} --recursive": (f"{verb} a=b -f {{folder}}", "-R"),
        f"{verb} --local": (f"{verb} a=b -f {{folder}}/pod.yaml", "--local"),
        f"{verb} --dry-run": (line, "--dry-run=server"),
    }


def _elsewhere(file: str, verb: str, options: str) -> dict[str, str]:
    return {f"{verb} {option}": file for option in options.split()}


ROWS: dict[str, Shown | str] = {
    **_formats("get", "get pod web"),
    "get --output": ("get pods", "-o name"),
    "get --filename": ("get", "-f {folder}/pod.yaml"),
    "get --recursive": ("get -f {folder}", "-R"),
    "get --selector": ("get pods", "-l app=db"),
    "get --field-selector": ("get events", "--field-selector type=Warning"),
    "get --all-namespaces": ("get pods", "-A"),
    "get --watch": ("get pods", "-w"),
    "get --watch-only": ("get pods", "--watch-only"),
    "get --output-watch-events": ("get pods -w", "--output-watch-events"),
    "get --ignore-not-found": ("get pod nope", "--ignore-not-found"),
    "get --subresource": ("get pods", "--subresource status"),
    "get --sort-by": ("get pods", "--sort-by .metadata.name"),
    "get --no-headers": ("get pods", "--no-headers"),
    "get --show-kind": ("get pods", "--show-kind"),
    "get --label-columns": ("get pods", "-L app"),
    "get --show-labels": ("get pods", "--show-labels"),
    "describe --show-events": ("describe pod web", "--show-events=false"),
    "describe --filename": ("describe", "-f {folder}/pod.yaml"),
    "describe --recursive": ("describe -f {folder}", "-R"),
    "describe --selector": ("describe pods", "-l app=db"),
    "describe --all-namespaces": ("describe pods", "-A"),
    **_elsewhere(
        "test_cli_logs.py",
        "logs",
        "--container --selector --follow --previous --tail --since --since-time --timestamps --all-containers "
        "--all-pods --prefix --limit-bytes --max-log-requests --ignore-errors --pod-running-timeout",
    ),
    "exec --container": ("exec web -- true", "-c other"),
    "exec --filename": ("exec -c app -- true", "-f {folder}/pod.yaml"),
    **_elsewhere("test_cli_exec.py", "exec", "--stdin --tty --quiet"),
    **_keys("label"),
    **_keys("annotate"),
    **_formats("patch", "patch pod web -p {}"),
    "patch --type": ("patch pod web -p {}", "--type merge"),
    "patch --subresource": ("patch pod web -p {}", "--subresource status"),
    "patch --patch": ("patch pod web", "-p {}"),
    "patch --patch-file": ("patch pod web", "--patch-file {folder}/pod.yaml"),
    "patch --filename": ("patch -p {}", "-f {folder}/pod.yaml"),
    "patch --recursive": ("patch -p {} -f {folder}", "-R"),
    "patch --local": ("patch -p {} -f {folder}/pod.yaml", "--local"),
    "patch --dry-run": ("patch pod web -p {}", "--dry-run=server"),
    "delete --filename": ("delete", "-f {folder}/pod.yaml"),
    "delete --recursive": ("delete -f {folder}", "-R"),
    "delete --selector": ("delete pods", "-l app=db"),
    "delete --field-selector": ("delete pods", "--field-selector metadata.name=db"),
    "delete --all-namespaces": ("delete pods --all", "-A"),
    "delete --all": ("delete pods", "--all"),
    "delete --grace-period": ("delete pod web", "--grace-period 5"),
    "delete --now": ("delete pod web", "--now"),
    "delete --force": ("delete pod web", "--force"),
    "delete --wait": ("delete pod web", "--wait=false"),
    "delete --timeout": ("delete pod slow", "--timeout 20ms"),
    "delete --ignore-not-found": ("delete pod nope", "--ignore-not-found"),
    "delete --interactive": ("delete pod web", "-i"),
    "delete --cascade": ("delete pod web", "--cascade orphan"),
    "delete --dry-run": ("delete pod web", "--dry-run=client"),
    "delete --output": ("delete pod web", "-o name"),
    **_formats("wait", "wait pod/web --for create"),
    "wait --for": ("wait pod/web", "--for create"),
    "wait --timeout": ("wait pod/web --for delete --timeout 20ms", "--timeout 0"),
    "wait --filename": ("wait --for create", "-f {folder}/pod.yaml"),
    "wait --recursive": ("wait --for create -f {folder}", "-R"),
    "wait --selector": ("wait pods --for create", "-l app=db"),
    "wait --field-selector": ("wait pods --for create", "--field-selector metadata.name=db"),
    "wait --all-namespaces": ("wait pods --all --for create", "-A"),
    "wait --all": ("wait pods --for create", "--all"),
    **_formats("events", "events"),
    "events --for": ("events", "--for pod/web"),
    "events --watch": ("events", "-w"),
    "events --all-namespaces": ("events", "-A"),
    "events --types": ("events", "--types Warning"),
    "events --no-headers": ("events", "--no-headers"),
    "explain --recursive": ("explain pod.spec", "--recursive"),
    "cp --container": ("cp web:/a /tmp/b", "-c other"),
    **_elsewhere("test_cli_cp.py", "cp", "--no-preserve"),
    "run --filename": ("run", "-f {folder}/pod.yaml"),
    **_elsewhere("test_cli_run.py", "run", "--detach --until --timeout"),
    "apply --filename": ("apply", "-f {folder}/pod.yaml"),
    "apply --output": ("apply -f {folder}/pod.yaml", "-o name"),
    "apply --dry-run": ("apply -f {folder}/pod.yaml", "--dry-run=server"),
    "replace --filename": ("replace", "-f {folder}/pod.yaml"),
    "replace --output": ("replace -f {folder}/pod.yaml", "-o name"),
    "replace --dry-run": ("replace -f {folder}/pod.yaml", "--dry-run=server"),
    "create --filename": ("create", "-f {folder}/pod.yaml"),
    "create --from-file": ("create cm c --dry-run=client -o yaml", "--from-file {folder}/pod.yaml"),
    "create --from-literal": ("create cm c --dry-run=client -o yaml", "--from-literal a=b"),
    "create --from-env-file": ("create cm c --dry-run=client -o yaml", "--from-env-file {folder}/env"),
    "create --type": ("create secret generic s --dry-run=client -o yaml", "--type T"),
    **{
        f"create --docker-{option}": (
            "create secret docker-registry s --docker-username a --docker-password b --dry-run=client -o yaml",
            f"--docker-{option} other",
        )
        for option in ("server", "username", "password", "email")
    },
    "create --cert": ("create secret tls s --dry-run=client -o yaml", "--key k --cert nope"),
    "create --key": ("create secret tls s --dry-run=client -o yaml", "--cert k --key nope"),
    "create --dry-run": ("create cm c", "--dry-run=client"),
    "attach --container": ("attach web", "-c other"),
    **_elsewhere("../node/test_debug.py", "attach", "--stdin --tty"),
    "attach --quiet": ("attach two", "-q"),
    "debug --profile": ("debug web --image i", "--profile netadmin"),
    "debug --image": ("debug web", "--image i"),
    "debug --target": ("debug web --image i", "--target app"),
    "debug --container": ("debug web --image i -c a", "-c other"),
    "debug --image-pull-policy": ("debug web --image i -c a", "--image-pull-policy Never"),
    "debug --env": ("debug web --image i -c a", "--env A=b"),
    "debug --arguments-only": ("debug web --image i -c a -- x", "--arguments-only"),
    **_elsewhere("../node/test_debug.py", "debug", "--stdin --tty --attach --quiet"),
    "resize --container": ("resize pod two --limits cpu=1", "-c b"),
    "resize --pod": ("resize pod web --limits cpu=1", "--pod"),
    "resize --requests": ("resize pod web --limits cpu=1", "--requests cpu=1"),
    "resize --limits": ("resize pod web --requests cpu=1", "--limits cpu=1"),
    "plan --filename": ("plan", "-f {folder}/nope.yaml"),
    "plan --output": ("plan {folder}/pod.yaml", "-o json"),
    "validate --filename": ("validate", "-f {folder}/pod.yaml"),
    "validate --output": ("validate {folder}/pod.yaml", "-o json"),
    **_elsewhere("test_cli_validate.py", "validate", "--strict --defaulted"),
    "image ls --output": ("image ls", "-o json"),
    "image df --output": ("image df", "-o json"),
    **_elsewhere("../node/test_images_other_tools.py", "image pull", "--quiet"),
    **_elsewhere("../node/test_images_cli.py", "image load", "--input --name --default"),
    **_elsewhere("../node/test_images_other_tools.py", "image save", "--output --format"),
    **_elsewhere("../node/test_images_killed.py", "image prune", "--all"),
    "image build-rootfs --packages": ("image build-rootfs n --from nope", "--packages a"),
    "image build-rootfs --from": ("image build-rootfs n", "--from nope"),
    "image build-rootfs --suite": ("image build-rootfs n --from nope", "--suite s"),
    "image build-rootfs --mirror": ("image build-rootfs n --from nope", "--mirror m"),
    "image build-rootfs --change": ("image build-rootfs n --from nope", "--change WRONG"),
    **_elsewhere("test_cli_verbs.py", "check", "--output"),
    **_elsewhere("../node/test_status.py", "status", "--output"),
    "gc --dry-run": ("gc", "--dry-run"),
    **_elsewhere("../node/test_agent.py", "agent", "--grace-period"),
    "version --client": ("version", "--client"),
    "version --output": ("version", "-o json"),
    **{
        f"{verb} --kustomize": (line, "-k {folder}/nope")
        for verb, line in {
            **{verb: verb for verb in ("get", "describe", "delete", "apply", "create", "replace", "run")},
            "label": "label a=b",
            "annotate": "annotate a=b",
            "patch": "patch -p {}",
            "wait": "wait --for create",
        }.items()
    },
    **{
        name: row
        for verb in ("apply", "create", "replace", "run")
        for name, row in _formats(verb, f"{verb} -f {{folder}}/pod.yaml --dry-run=client").items()
    },
    **{f"{verb} --recursive": (f"{verb} -f {{folder}}", "-R") for verb in ("apply", "create", "replace", "run")},
    **{
        f"{verb} --validate": (f"{verb} -f {{folder}}/pod.yaml", "--validate=ignore")
        for verb in ("apply", "create", "replace", "run")
    },
    **{
        f"{verb} {option}": (f"{verb} -f {{folder}}/pod.yaml --force", words)
        for verb in ("apply", "replace")
        for option, words in {"--grace-period": "--grace-period 5", "--timeout": "--timeout 9s"}.items()
    },
    **{f"{verb} --force": (f"{verb} -f {{folder}}/pod.yaml", "--force") for verb in ("apply", "replace")},
    **{f"{verb} --cascade": (f"{verb} -f {{folder}}/pod.yaml", "--cascade orphan") for verb in ("apply", "replace")},
    **{f"{verb} --save-config": (f"{verb} -f {{folder}}/pod.yaml", "--save-config") for verb in ("create", "replace")},
    **{f"{verb} --selector": (f"{verb} -f {{folder}}/pod.yaml", "-l a=b") for verb in ("apply", "create")},
    "apply --all": ("apply -f {folder}/pod.yaml --prune", "--all"),
    "apply --prune": ("apply -f {folder}/pod.yaml --all", "--prune"),
    "apply --prune-allowlist": ("apply -f {folder}/pod.yaml --prune --all", "--prune-allowlist core/v1/ConfigMap"),
    "apply --wait": ("apply -f {folder}/pod.yaml --prune --all", "--wait"),
    "apply --overwrite": ("apply -f {folder}/pod.yaml", "--overwrite=false"),
    "apply --server-side": ("apply -f {folder}/pod.yaml", "--server-side"),
    "apply --force-conflicts": ("apply -f {folder}/pod.yaml", "--force-conflicts"),
    "image ls --quiet": ("image ls", "-q"),
    **_elsewhere("test_login.py", "image login", "--username --password --password-stdin"),
    "inspect --output": ("inspect web", "-o json"),
    **_elsewhere("../node/test_inspect.py", "ps", "--all"),
    "ps --no-trunc": "test_inspect.py",
    **_elsewhere("test_inspect.py", "top", "--all-namespaces --containers --no-headers --sort-by --sum"),
    "top --selector": ("top pod", "-l app=db"),
    "ps --all-namespaces": ("ps", "-A"),
    "ps --format": ("ps", "--format json"),
    "ps --no-headers": ("ps", "--no-headers"),
    "ps --quiet": ("ps", "-q"),
    "ps --selector": ("ps", "-l app=db"),
    "run --image": ("run web", "--image i"),
    "run --dry-run": (_RUN, "--dry-run=client"),
    "run --output": (f"{_RUN} --dry-run=client", "-o yaml"),
    "run --overrides": (f"{_RUN} --dry-run=client -o yaml", '--overrides {"spec":{"hostNetwork":true}}'),
    "run --override-type": (
        f'{_RUN} --dry-run=client -o yaml --overrides {{"spec":{{"containers":[{{"name":"web","tty":true}}]}}}}',
        "--override-type strategic",
    ),
    **{
        f"run {option}": (f"{_RUN} --dry-run=client -o yaml{after}", words)
        for option, words, after in (
            ("--annotations", "--annotations a=b", ""),
            ("--command", "--command", " -- x"),
            ("--env", "--env A=b", ""),
            ("--expose", "--expose", ""),
            ("--image-pull-policy", "--image-pull-policy Never", ""),
            ("--labels", "-l a=b", ""),
            ("--port", "--port 80", ""),
            ("--privileged", "--privileged", ""),
            ("--restart", "--restart Never", ""),
            ("--stdin", "-i", ""),
            ("--tty", "-t", ""),
        )
    },
    **_elsewhere(
        "test_cli_run_image.py", "run", "--attach --pod-running-timeout --quiet --rm --save-config --leave-stdin-open"
    ),
    "run --replace": ("run -f {folder}/pod.yaml", "--replace"),
    **_formats("set", "set image --local -f {folder}/pod.yaml app=x"),
    "set --containers": ("set env pod two A=b --dry-run=client -o json", "-c a"),
    "set --env": ("set env pod web A=b --dry-run=client -o json", "-e C=d"),
    "set --from": ("set env pod web A=b --dry-run=client -o json", "--from cm/nope"),
    "set --keys": ("set env pod web A=b", "--keys k"),
    "set --prefix": ("set env pod web A=b", "--prefix P_"),
    "set --list": ("set env pod web", "--list"),
    "set --overwrite": ("set image pod web app=x", "--overwrite=false"),
    "set --limits": ("set resources pod web", "--limits cpu=1"),
    "set --requests": ("set resources pod web", "--requests cpu=1"),
    "set --filename": ("set image app=x", "-f {folder}/pod.yaml"),
    "set --recursive": ("set image app=x -f {folder}", "-R"),
    "set --kustomize": ("set image app=x", "-k {folder}/nope"),
    "set --selector": ("set image pods app=x", "-l app=db"),
    "set --all": ("set image pods app=x", "--all"),
    "set --local": ("set image app=x -f {folder}/pod.yaml", "--local"),
    "set --dry-run": ("set image pod web app=x", "--dry-run=server"),
    "rollout --filename": ("rollout restart", "-f {folder}/pod.yaml"),
    "rollout --recursive": ("rollout restart -f {folder}", "-R"),
    "rollout --kustomize": ("rollout restart", "-k {folder}/nope"),
    "rollout --selector": ("rollout restart pods", "-l app=db"),
    "diff --filename": ("diff", "-f {folder}/pod.yaml"),
    "diff --recursive": ("diff -f {folder}", "-R"),
    "diff --kustomize": ("diff", "-k {folder}/nope"),
    "diff --selector": ("diff -f {folder}/pod.yaml", "-l a=b"),
    "diff --validate": ("diff -f {folder}/pod.yaml", "--validate=ignore"),
    **_elsewhere("test_cli_diff.py", "diff", "--show-secrets"),
    "api-resources --output": ("api-resources", "-o wide"),
    "api-resources --no-headers": ("api-resources", "--no-headers"),
    "api-resources --namespaced": ("api-resources", "--namespaced=false"),
    "api-resources --sort-by": ("api-resources", "--sort-by kind"),
    "api-resources --verbs": ("api-resources", "--verbs create"),
    "api-resources --categories": ("api-resources", "--categories all"),
    "api-resources --api-group": ("api-resources", "--api-group apps"),
    "explain --api-version": ("explain pod", "--api-version apps/v1"),
    "explain --output": ("explain pod", "-o wide"),
    "kubeconfig --path": ("kubeconfig", "--path"),
    "kubeconfig --server": ("kubeconfig", "--server https://other:1"),
    "kubeconfig --user": ("kubeconfig", "--user ada"),
    "kubeconfig --group": ("kubeconfig --user ada", "--group team"),
    "serve --listen": ("serve", "--listen 127.0.0.1:1"),
    "serve --tls-san": ("serve", "--tls-san other"),
    "serve --token-file": ("serve", "--token-file tokens"),
    **_elsewhere("../node/test_uninstall.py", "uninstall", "--dry-run --force --purge --yes"),
}
