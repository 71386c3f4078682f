"""Late imports of modules that other libraries import and the agent hardly ever uses (layer 7).

asyncio imports OpenSSL for transports with TLS (4 MB; probes and registries have TLS sockets of their own), and
`inspect`, with `ast` and `dis`, to check for coroutines (1 MB); msgspec and subprocess import the others (0.5 MB).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType

#: loaded with the first access to one of their attributes
_LATE = ("inspect", "locale", "asyncio.sslproto", "msgspec.inspect")
#: asyncio works without them, as on a Python that was built without OpenSSL
_ABSENT = ("ssl",)


@contextmanager
def lean_imports() -> Iterator[None]:
    """Inside the context imports do not load `_LATE` and `_ABSENT`; after it they find all of them."""
    for name in _LATE:
        if name not in sys.modules and (spec := _spec(name)) is not None:
            sys.modules[name] = LateModule(spec)
    absent = [name for name in _ABSENT if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def _spec(name: str) -> ModuleSpec | None:
    """Also of a package's module, without importing the package."""
    package, _, module = name.rpartition(".")
    if not package:
        return find_spec(name)
    found = find_spec(package)
    return found and PathFinder.find_spec(f"{package}.{module}", found.submodule_search_locations)


class LateModule(ModuleType):
    """A module that is executed when its first attribute is read. importlib's LazyLoader executes it with the first
    import, because the import system reads `__spec__`.
    """

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(spec.name)
        vars(self).update(vars(module_from_spec(spec)), _late=RLock(), _begun=False)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        with vars(self).get("_late") or RLock():
            if type(self) is LateModule and not vars(self)["_begun"]:
                vars(self)["_begun"] = True  # while it is executed, its own attributes are not defined yet
                assert self.__spec__ is not None
                assert self.__spec__.loader is not None
                try:
                    self.__spec__.loader.exec_module(self)
                except BaseException:
                    vars(self)["_begun"] = False  # for lack of memory, say: the next access tries again
                    raise
                self.__class__ = ModuleType  # type: ignore[assignment]
                for ours in ("_late", "_begun"):
                    del vars(self)[ours]
        try:
            return vars(self)[name]
        except KeyError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None
