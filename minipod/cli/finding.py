"""What a probe of `minipod check` found (layer 6), as a value. Asks nothing and prints nothing."""

from __future__ import annotations


class Finding:
    """One line. `ok` None: could not be found out (without root). `needed`: `run` cannot work without it."""

    def __init__(
        self, name: str, ok: bool | None, detail: str = "", why: str = "", remedy: str = "", needed: bool = True
    ) -> None:
        self.name = name
        self.ok = ok
        self.detail = detail
        self.why = why
        self.remedy = remedy
        self.needed = needed

    @property
    def word(self) -> str:
        if self.ok is None:
            return "unknown"
        return "ok" if self.ok else "missing"

    @property
    def is_fatal(self) -> bool:
        return self.ok is False and self.needed
