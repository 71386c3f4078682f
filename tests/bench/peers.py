"""The same work done by podman, crun and runc, where they are installed. Nothing of them stays."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import Figure, milliseconds, run
from tests.bench.pods import IDLE, Bench


def measure(runs: int, bench: Bench) -> Iterator[Figure]:
    """Figures of every peer that is installed and works here; the caller names the others on standard error."""
    layers = bench_layers(bench)
    for name in ("crun", "runc"):
        if shutil.which(name):
            yield from _oci_runtime(name, layers, runs)
    if shutil.which("podman"):
        yield from _podman(layers, runs)


def bench_layers(bench: Bench) -> str:
    """The busybox image's one layer, as a root folder."""
    found = sorted(Path(bench.paths.state, "images", "layers").iterdir())
    return str(found[0])


@contextlib.contextmanager
def _bundle(runtime: str, root: str) -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="mpb")
    try:
        shutil.copytree(root, f"{folder}/rootfs", symlinks=True)
        subprocess.run([runtime, "spec"], cwd=folder, check=True, capture_output=True)
        spec = json.loads(Path(folder, "config.json").read_text())
        spec["process"].update(terminal=False, args=["true"])
        Path(folder, "config.json").write_text(json.dumps(spec))
        yield folder
    finally:
        shutil.rmtree(folder)


def _oci_runtime(runtime: str, root: str, runs: int) -> Iterator[Figure]:
    figure = Figure(f"{runtime} run true (netns, root folder)", "ms")
    with _bundle(runtime, root) as folder:
        for number in range(runs):
            figure.samples.append(
                milliseconds(lambda number=number: run(runtime, "run", "--bundle", folder, f"mpb{number}"))  # type: ignore[misc]
            )
    yield figure


def _podman(root: str, runs: int) -> Iterator[Figure]:
    play = Figure("podman kube play (idle pod)", "ms")
    execute = Figure("podman exec POD true", "ms")
    down = Figure("podman kube down (obeys TERM)", "ms")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/pod.yaml"
        Path(path).write_text(IDLE.format(name="mpb").replace("image: busybox", "image: localhost/mpb:latest"))
        run("sh", "-c", f"tar -C {root} -c . | podman import - localhost/mpb:latest")
        try:
            for _ in range(max(3, runs // 2)):
                play.samples.append(milliseconds(lambda: run("podman", "kube", "play", path)))
                execute.samples.append(milliseconds(lambda: run("podman", "exec", "mpb-main", "true")))
                down.samples.append(milliseconds(lambda: run("podman", "kube", "down", path)))
        finally:
            with contextlib.suppress(RuntimeError):  # after a failure a pod may be there
                run("podman", "kube", "down", path)
            run("podman", "rmi", "-f", "localhost/mpb:latest")
    yield from (play, execute, down)
