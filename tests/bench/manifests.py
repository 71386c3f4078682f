"""What checking manifests costs: one file as a command, and many pods in one process."""

from __future__ import annotations

import gc
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from minipod.api.check import check
from minipod.cli.show.yamlout import to_yaml
from tests.bench.measure import Figure, milliseconds, run

CHECKOUT = Path(__file__).resolve().parents[2]
CORPUS = CHECKOUT / "tests" / "data" / "pods-validation.jsonl.gz"
BUDGET_US = 500  # 2,000 pods a second


def measure(runs: int) -> Iterator[Figure]:
    texts = _valid_pods()
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(to_yaml(json.loads(texts[0])))
        file.flush()
        command = (sys.executable, "-I", str(CHECKOUT / "minipod" / "__main__.py"), "validate", file.name)
        samples = [milliseconds(lambda: run(*command)) for _ in range(runs)]
    yield Figure("minipod validate FILE (YAML)", "ms", samples, budget=80)
    yield _bulk("an average pod validated, one of many, JSON", texts)
    yield _bulk("an average pod validated, one of many, YAML", [to_yaml(json.loads(text)) for text in texts])


def _valid_pods() -> list[str]:
    with gzip.open(CORPUS, "rt", encoding="utf-8") as lines:
        return [json.dumps(case["pod"]) for case in map(json.loads, lines) if case["expect"] == "valid"]


def _bulk(name: str, texts: list[str]) -> Figure:
    """Processor time, as `minipod validate` spends it: no garbage is looked for, there is next to none."""
    figure = Figure(name, "µs", budget=BUDGET_US)
    gc.disable()
    try:
        for _ in range(4):
            begin = time.process_time()
            for text in texts:
                check(text, support=False)
            figure.samples.append((time.process_time() - begin) * 1e6 / len(texts))
    finally:
        gc.enable()
    del figure.samples[0]  # what is resolved once
    return figure
