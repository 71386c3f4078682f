"""The agent's steady clock (layer 5): seconds since the epoch, which go on evenly when the wall clock is set.

Intervals (back-offs, grace periods, deadlines, turns of probes, the lifetime of events) are measured by it, the wall
clock is only shown. It counts CLOCK_BOOTTIME from the moment at which the first agent of a boot began; that is in the
store, with the boot's id, so that intervals last over agents too. After a reboot the wall clock is all there is:
it then continues as far from it as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from minipod.agent import processes
from minipod.agent.registry.store import Store

log = logging.getLogger("minipod.agent")

NOISE_S = 0.01  # differences of less are none: two clocks cannot be read at once
JUMP_S = 0.5  # what is reported
_SAVED = "clock"  # key in the store


class _Saved(msgspec.Struct, frozen=True):
    """`base_s`: this clock at the boot. `ahead_s`: by how much the wall clock was ahead of it."""

    boot: str
    base_s: float
    ahead_s: float


class SteadyClock:
    """`wall`: seconds since the epoch, as they are set. `since_boot`: seconds, which cannot be set."""

    def __init__(self, store: Store, wall: Callable[[], float], since_boot: Callable[[], float]) -> None:
        self._store = store
        self._wall = wall
        self._since_boot = since_boot
        self.on_jump: Callable[[float], None] = lambda seconds: None
        self._boot = processes.boot_id()
        self._base_s, self._ahead_s = self._taken_over()
        self._save()

    def _taken_over(self) -> tuple[float, float]:
        wall_s, since_boot_s = self._wall(), self._since_boot()
        saved = _saved(self._store)
        if saved is None:
            return wall_s - since_boot_s, 0.0
        if saved.boot != self._boot:
            return wall_s - saved.ahead_s - since_boot_s, saved.ahead_s
        ahead_s = wall_s - since_boot_s - saved.base_s
        if abs(ahead_s - saved.ahead_s) <= NOISE_S:
            return saved.base_s, saved.ahead_s
        if abs(ahead_s - saved.ahead_s) >= JUMP_S:
            log.warning("while no agent ran %s", described(ahead_s - saved.ahead_s))
        return saved.base_s, ahead_s

    def now(self) -> float:
        return self._since_boot() + self._base_s

    @property
    def ahead_s(self) -> float:
        """By how much the wall clock is ahead of this one. A change is reported to `on_jump`."""
        self.look()
        return self._ahead_s

    def look(self) -> None:
        """Notices whether the wall clock was set."""
        before, now, after = self._wall(), self.now(), self._wall()
        if not before - now - NOISE_S <= self._ahead_s <= after - now + NOISE_S:
            moved_s = before - now - self._ahead_s
            self._ahead_s = before - now
            self._save()
            if abs(moved_s) >= JUMP_S:
                log.warning("%s", described(moved_s))
                self.on_jump(moved_s)

    def _save(self) -> None:
        saved = _Saved(self._boot, self._base_s, self._ahead_s)
        if saved == _saved(self._store):
            return
        self._store.note(_SAVED, msgspec.json.encode(saved).decode())


def _saved(store: Store) -> _Saved | None:
    text = store.meta(_SAVED)
    try:
        return None if text is None else msgspec.json.decode(text, type=_Saved)
    except msgspec.DecodeError:
        return None


def described(moved_s: float) -> str:
    """What happened, for people: `the clock was set back by 3600.0 s: …`."""
    way = "back" if moved_s < 0 else "forward"
    return f"the clock was set {way} by {abs(moved_s):.1f} s: what is measured goes on as before, what is shown follows"
