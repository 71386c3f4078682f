"""How much of the answerer one pod may use (layer 2, pure): questions a second, and what it waits for."""

from __future__ import annotations

PER_SECOND = 500  # questions of one address; a quarter of what the process can answer
BURST = 500
MOST_SOURCES = 8192


class Budget:
    """A bucket of tokens for each source address; a question takes one. `now`: seconds, of a clock that only grows."""

    def __init__(self, per_second: float = PER_SECOND, burst: float = BURST, most_sources: int = MOST_SOURCES) -> None:
        self._per_second = per_second
        self._burst = burst
        self._most_sources = most_sources
        self._buckets: dict[str, list[float]] = {}  # address: tokens, when they were counted

    def take(self, source: str, now: float) -> bool:
        """Whether the source may ask once more."""
        bucket = self._buckets.get(source)
        if bucket is None:
            if len(self._buckets) >= self._most_sources:
                self._buckets.pop(next(iter(self._buckets)))  # the one that has been known for longest
            bucket = self._buckets[source] = [self._burst, now]
        tokens = min(self._burst, bucket[0] + (now - bucket[1]) * self._per_second)
        bucket[1] = now
        bucket[0] = tokens - 1 if tokens >= 1 else tokens
        return tokens >= 1


class Shares:
    """At most so many things at a time, and of one source so many."""

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._held: dict[str, int] = {}
        self.count = 0

    def take(self, source: str) -> bool:
        held = self._held.get(source, 0)
        if self.count >= self._most or held >= self._most_each:
            return False
        self._held[source] = held + 1
        self.count += 1
        return True

    def give_back(self, source: str) -> None:
        self.count -= 1
        self._held[source] -= 1
        if not self._held[source]:
            del self._held[source]
