"""What several processes have each, seen by all of them."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist

Part = TypeVar("Part")


def gathered(part: Part, processes: int) -> list[Part]:
    """The parts of all processes in their order; this one's alone where there is one. Tensors must lie on the CPU."""
    if processes == 1:
        return [part]
    parts: list[Part | None] = [None] * processes
    dist.all_gather_object(parts, part)
    return parts  # type: ignore[return-value]
