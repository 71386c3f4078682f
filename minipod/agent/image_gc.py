"""Removes unused images while the disk is nearly full (layer 5). The image store decides which ones."""

from __future__ import annotations

import asyncio
import logging

from minipod.agent.node import Node
from minipod.errors import MinipodError
from minipod.runtime.offload import slowly_off_loop

log = logging.getLogger("minipod.agent")

PERIOD_S = 300.0  # the kubelet's ImageGCPeriod


class ImageCollector:
    """Keeps disk usage between the thresholds of the configuration, as the kubelet (images/image_gc_manager.go)."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def run(self) -> None:
        high = self._node.config.image_gc_high_threshold_percent
        low = min(high, self._node.config.image_gc_low_threshold_percent)
        if high >= 100:
            return
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                gone = await slowly_off_loop(self._node.runtime.images.collect, high, low)
            except (MinipodError, OSError) as error:
                log.warning("image garbage collection: %s", error)
                continue
            for name in gone:
                log.info("disk use was above %d %%: removed image %s", high, name)
