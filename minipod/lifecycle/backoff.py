"""Back-off of restarts and of image pulls (layer 4, pure): client-go's flowcontrol.Backoff as values.

The kubelet's numbers: 10 s, doubled up to 300 s (or the configured ceiling). A restart's entry counts as new when the
container ran on for more than 600 s after the entry was moved (kubelet.go, HasExpiredFunc), a pull's after twice the
ceiling.
"""

from __future__ import annotations

from minipod.lifecycle.values import BackOff

INITIAL_S = 10.0
MAX_PULL_S = 300.0
RESTART_EXPIRY_S = 600.0


def in_restart_backoff(entry: BackOff | None, ended: float, now: float) -> bool:
    """Whether a container that ended at `ended` still has to wait (IsInBackOffSince)."""
    if entry is None or ended - entry.updated_at > RESTART_EXPIRY_S:
        return False
    return now - ended < entry.delay_s


def next_restart_backoff(entry: BackOff | None, ended: float, now: float, max_s: float) -> BackOff:
    """The entry after one more restart (Next)."""
    if entry is None or ended - entry.updated_at > RESTART_EXPIRY_S:
        return BackOff(delay_s=min(INITIAL_S, max_s), updated_at=now)
    return BackOff(delay_s=min(entry.delay_s * 2, max_s), updated_at=now)


def in_pull_backoff(entry: BackOff | None, now: float) -> bool:
    """Whether an image must not be asked for again yet (IsInBackOffSinceUpdate)."""
    return entry is not None and now - entry.updated_at < entry.delay_s


def next_pull_backoff(entry: BackOff | None, now: float) -> BackOff:
    """The entry after one more failed pull."""
    if entry is None or now - entry.updated_at > 2 * MAX_PULL_S:
        return BackOff(delay_s=INITIAL_S, updated_at=now)
    return BackOff(delay_s=min(entry.delay_s * 2, MAX_PULL_S), updated_at=now)
