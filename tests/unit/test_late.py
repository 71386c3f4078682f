"""Modules that wait for their first use."""

from __future__ import annotations

import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from minipod.serve.late import LateModule, lean_imports

SOURCE = """
import time
began.append(__name__)
time.sleep(0)
value = 7
def itself():
    import waits
    return waits.value
"""


@pytest.fixture
def waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LateModule:
    (tmp_path / "waits.py").write_text("from builtins import began\n" + SOURCE)
    monkeypatch.setattr("builtins.began", [], raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    spec = find_spec("waits")
    assert spec is not None
    module = LateModule(spec)
    monkeypatch.setitem(sys.modules, "waits", module)
    return module


def begun() -> list[str]:
    import builtins

    names: list[str] = builtins.began  # type: ignore[attr-defined]
    return names


def test_an_import_does_not_load_it_and_a_use_does(waits: LateModule) -> None:
    import waits as imported  # type: ignore[import-not-found]

    assert imported is waits
    assert begun() == []
    assert imported.value == 7
    assert imported.itself() == 7  # type: ignore[operator]
    assert begun() == ["waits"]
    assert type(waits) is ModuleType
    with pytest.raises(AttributeError, match="'waits' has no attribute 'other'"):
        imported.other  # noqa: B018


def test_many_threads_load_it_once(waits: LateModule) -> None:
    seen: list[object] = []
    threads = [threading.Thread(target=lambda: seen.append(waits.value)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [7] * 8
    assert begun() == ["waits"]


def test_what_is_absent_can_be_imported_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ssl", raising=False)
    with lean_imports(), pytest.raises(ImportError):
        import ssl
    import ssl

    assert ssl.HAS_TLSv1_2


def test_what_failed_once_is_loaded_with_the_next_use(waits: LateModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        waits.value  # noqa: B018
    monkeypatch.undo()
    monkeypatch.setattr("builtins.began", [], raising=False)
    assert waits.value == 7
