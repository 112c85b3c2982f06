"""What would fit where a run does not: fewer images, smaller ones."""

from collections.abc import Callable, Iterator
from typing import Any

from .memory_estimate import MemoryEstimate, gigabytes
from .memory_growth import growth_of
from .memory_trial import Size, Workload, copy_to_cpu

_MULTIPLE = 32


def smaller(
    model: Any, found: MemoryEstimate, load: Workload, room: int, on_gpu: bool = False
) -> str:
    """Say which batch and which size would fit.

    Args:
        model: With ``cfg``.
        found: What the run needs.
        load: What would run.
        room: Bytes that are there.
        on_gpu: Of a GPU's memory.
    """
    growth = found.growth or growth_of(copy_to_cpu(model, load.training), load, on_gpu)
    rest = found.total - max(found.step, found.checkpoint)
    # Where the pass itself was measured, what is told from others is scaled to it.
    scale = found.step / max(growth.bytes_of(load.batch_size, load.size_hw), 1)

    def needs(batch_size: int, size_hw: Size) -> int:
        return rest + max(int(scale * growth.bytes_of(batch_size, size_hw)), found.checkpoint)

    ways = [*_fewer(needs, load, room), *_lesser(needs, load, room)]
    if not ways:
        least = needs(1, (_MULTIPLE, _MULTIPLE))
        return f'no smaller input would: {gigabytes(least)} GB are needed with next to none'
    also = ', --amp' if load.training and not load.amp else ''
    kept = (
        '; accumulated gradients (optim_wrapper.accumulative_counts) keep the images of a step'
        if load.training and load.batch_size > 1
        else ''
    )
    return f'{" or ".join(ways)} would fit; fewer num_workers{also} help too{kept}'


def _fewer(needs: Callable[[int, Size], int], load: Workload, room: int) -> Iterator[str]:
    for number in range(load.batch_size - 1, 0, -1):
        needed = needs(number, load.size_hw)
        if needed <= room:
            yield f'a batch size of {number} (about {gigabytes(needed)} GB)'
            return


def _lesser(needs: Callable[[int, Size], int], load: Workload, room: int) -> Iterator[str]:
    """Yield the largest size of the same shape for the same batch, or else for single images."""
    height, width = load.size_hw
    for number in dict.fromkeys((load.batch_size, 1)):
        for side in range((height - 1) // _MULTIPLE * _MULTIPLE, 0, -_MULTIPLE):
            other = max(round(side * width / height / _MULTIPLE), 1) * _MULTIPLE
            needed = needs(number, (side, other))
            if needed <= room:
                yield (f'{number} x {side} x {other} pixels (about {gigabytes(needed)} GB)')
                return
