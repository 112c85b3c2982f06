"""Deformable attention beside mmcv's CPU implementation, in one process on the same tensors.

Blocks of three calls alternate (A A A B B B, twice), results are compared before anything is
timed, and the claim is the ratio: absolute times depend on the machine and on who else uses it.
CPU time is what counts where wall time and CPU time of one thread differ by more than 5 %.

    python benchmarks/ops.py [--defvistr] [--threads 1] [--out benchmarks/results]
"""

import argparse
import ctypes
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor


class Case(NamedTuple):
    """Sizes of one call; ``queries=None`` makes every token of every level a query."""

    shapes: list[tuple[int, int]]
    channels: int
    points: int
    queries: int | None
    heads: int = 8


LEVELS = [(100, 134), (50, 67), (25, 34), (13, 17)]  # strides 8 to 64 of an 800x1066 image
CASES = {
    'encoder 800x1066': Case(LEVELS, 32, 4, None),
    'decoder 300 queries': Case(LEVELS, 32, 4, 300),
    'DefVisTR encoder': Case([(10, 13)] * 36 + [(8, 20)], 48, 6, None),
}


class Timing(NamedTuple):
    """Seconds of single calls."""

    wall: list[float]
    cpu: list[float]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--defvistr', action='store_true', help='the 37-level case too (minutes)')
    parser.add_argument('--threads', type=int, default=1, help='default: 1')
    parser.add_argument('--out', type=Path, help='folder for ops_cpu.md and ops_cpu.json')
    return parser.parse_args()


def reference_points(case: Case) -> Tensor:
    """Centres of all cells of all levels, or random points: (Q, 2) as (x, y)."""
    if case.queries is not None:
        return torch.rand(case.queries, 2)
    points = []
    for h, w in case.shapes:
        y, x = torch.meshgrid(
            (torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing='ij'
        )
        points.append(torch.stack([x, y], -1).view(-1, 2))
    return torch.cat(points)


def keep_off_pixels(locations: Tensor, shapes: Tensor) -> Tensor:
    """Move points a thousandth of a pixel off whole coordinates.

    The derivative jumps there, so two correct implementations that round differently would differ.
    """
    sizes_xy = shapes.flip(-1)[:, None].double()
    pixels = locations.double() * sizes_xy - 0.5
    pixels = pixels.floor() + pixels.frac().remainder(1).clamp(1e-3, 1 - 1e-3)
    return ((pixels + 0.5) / sizes_xy).float()


def make_inputs(case: Case, sampling: str) -> tuple[Tensor, ...]:
    """Make value, spatial_shapes, level_start_index, locations and weights, seeded."""
    torch.manual_seed(0)
    shapes = torch.tensor(case.shapes)
    areas = shapes.prod(1)
    reference = reference_points(case)
    size = (1, len(reference), case.heads, len(shapes), case.points)
    if sampling == 'local':  # three pixels of each level around the reference point
        offsets = torch.randn(*size, 2) * 3 / shapes.flip(-1)[:, None]
        locations = reference.view(1, -1, 1, 1, 1, 2) + offsets
    else:
        locations = torch.rand(*size, 2) * 1.1 - 0.05
    locations = keep_off_pixels(locations, shapes)
    value = torch.randn(1, int(areas.sum()), case.heads, case.channels)
    weights = torch.rand(size).flatten(3).softmax(-1).view(size)
    starts = areas.cumsum(0) - areas
    return (
        value.requires_grad_(),
        shapes,
        starts,
        locations.requires_grad_(),
        weights.requires_grad_(),
    )


def implementations() -> dict[str, Callable[..., Tensor]]:
    """Return ours and the anchor under their names."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    from isda_suite.ops import ms_deform_attn

    def from_mmcv(value: Tensor, shapes: Tensor, _: Tensor, *points: Tensor) -> Tensor:
        return multi_scale_deformable_attn_pytorch(value, shapes, *points)

    return {'mmcv': from_mmcv, 'isda_suite': ms_deform_attn}


def make_call(
    operator: Callable[..., Tensor], inputs: tuple[Tensor, ...], backward: bool
) -> Callable[[], list[Tensor]]:
    """Return a function that runs one forward, or forward and backward, and gives all results."""
    value, _, _, locations, weights = inputs
    grad = torch.randn(1, locations.shape[1], value.shape[2] * value.shape[3])

    def call() -> list[Tensor]:
        with torch.set_grad_enabled(backward):
            out = operator(*inputs)
        if not backward:
            return [out]
        return [out.detach(), *torch.autograd.grad(out, (value, locations, weights), grad)]

    return call


def verify(ours: list[Tensor], anchor: list[Tensor]) -> float:
    """Return the largest norm-relative difference; refuse to time wrong results."""
    worst = max(float((a - b).norm() / b.norm()) for a, b in zip(ours, anchor, strict=True))
    if not worst < 1e-4:
        raise SystemExit(f'results differ by {worst:.2g}; nothing was timed')
    return worst


def time_blocks(calls: dict[str, Callable[[], list[Tensor]]]) -> dict[str, Timing]:
    """Time A A A B B B A A A B B B."""
    timings = {name: Timing([], []) for name in calls}
    for _ in range(2):
        for name, call in calls.items():
            for _ in range(3):
                wall, cpu = time.perf_counter(), time.process_time()
                call()
                timings[name].wall.append(time.perf_counter() - wall)
                timings[name].cpu.append(time.process_time() - cpu)
    return timings


def peak_memory_mib(call: Callable[[], list[Tensor]]) -> float | None:
    """Memory one call needs at its peak beyond what was there, results included (Linux)."""

    def status(key: str) -> int:
        lines = Path('/proc/self/status').read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(key))

    try:
        # Freed memory that the allocator keeps would hide what the call needs.
        ctypes.CDLL('libc.so.6').malloc_trim(0)
        Path('/proc/self/clear_refs').write_text('5')  # resets the peak
        before = status('VmRSS')
        call()
        return (status('VmHWM') - before) / 1024
    except OSError:
        return None


def measure(case: Case, sampling: str, backward: bool) -> dict[str, object]:
    """Measure one row of the table."""
    inputs = make_inputs(case, sampling)
    calls = {}
    for name, operator in implementations().items():
        torch.manual_seed(1)
        calls[name] = make_call(operator, inputs, backward)
    difference = verify(calls['isda_suite'](), calls['mmcv']())
    memory = {name: peak_memory_mib(call) for name, call in calls.items()}
    timings = time_blocks(calls)
    row: dict[str, object] = {
        'sampling': sampling,
        'pass': 'fwd+bwd' if backward else 'forward',
        'difference': difference,
    }
    for name, timing in timings.items():
        row[name] = {
            'cpu_median_ms': statistics.median(timing.cpu) * 1e3,
            'cpu_min_ms': min(timing.cpu) * 1e3,
            'wall_median_ms': statistics.median(timing.wall) * 1e3,
            'wall_min_ms': min(timing.wall) * 1e3,
            'extra_memory_mib': memory[name],
        }
    ours, anchor = timings['isda_suite'], timings['mmcv']
    row['ratio_cpu_median'] = statistics.median(anchor.cpu) / statistics.median(ours.cpu)
    row['ratio_cpu_min'] = min(anchor.cpu) / min(ours.cpu)
    row['ratio_wall_min'] = min(anchor.wall) / min(ours.wall)
    both = [(statistics.median(t.wall), statistics.median(t.cpu)) for t in timings.values()]
    row['wall_is_cpu'] = all(abs(wall - cpu) <= 0.05 * cpu for wall, cpu in both)
    return row


def machine() -> dict[str, object]:
    """Describe what this ran on."""
    import mmcv

    from isda_suite.ops import info

    cpu = platform.processor()
    if Path('/proc/cpuinfo').exists():
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        cpu = next((x.split(':')[1].strip() for x in lines if x.startswith('model name')), cpu)
    return {
        'cpu': cpu,
        'cores': os.cpu_count(),
        'load': [round(x, 1) for x in os.getloadavg()],
        'threads': torch.get_num_threads(),
        'variant': info()['cpu_isa'] or 'reference',
        'python': platform.python_version(),
        'torch': torch.__version__,
        'mmcv': mmcv.__version__,
        'date': time.strftime('%Y-%m-%d'),
    }


def table(rows: list[dict], about: dict[str, object]) -> str:
    """Write the rows as markdown."""
    head = [
        '# Deformable attention on the CPU against mmcv',
        '',
        ', '.join(f'{key} {value}' for key, value in about.items()),
        '',
        'float32, batch 1; milliseconds of CPU time, median (minimum) of 6 calls in alternating',
        'blocks; memory is the peak beyond the inputs, results included. `steady`: wall and CPU',
        'time agreed within 5 %; where they did not, other programs used the machine.',
        '',
        '| case | sampling | pass | mmcv | isda_suite | ratio (of minima) | MiB mmcv | MiB ours '
        '| steady |',
        '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ]
    for row in rows:
        times, memory = [], []
        for name in ('mmcv', 'isda_suite'):
            cell = row[name]
            times.append(f'{cell["cpu_median_ms"]:.1f} ({cell["cpu_min_ms"]:.1f})')
            extra = cell['extra_memory_mib']
            memory.append('-' if extra is None else f'{extra:.0f}')
        ratio = f'{row["ratio_cpu_median"]:.1f} ({row["ratio_cpu_min"]:.1f})'
        cells = [row['case'], row['sampling'], row['pass'], *times, ratio, *memory]
        head.append(f'| {" | ".join(cells)} | {"yes" if row["wall_is_cpu"] else "no"} |')
    return '\n'.join(head) + '\n'


def main() -> None:
    """Run the cases and print or write the table."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    about = machine()
    rows = []
    for name, case in CASES.items():
        if name.startswith('DefVisTR') and not arguments.defvistr:
            continue
        for sampling in ('local', 'uniform'):
            for backward in (False, True):
                row = {'case': name, **measure(case, sampling, backward)}
                rows.append(row)
                print(name, sampling, row['pass'], f'{row["ratio_cpu_median"]:.1f}x', flush=True)
    text = table(rows, about)
    print(text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / 'ops_cpu.md').write_text(text)
        results = json.dumps({'machine': about, 'rows': rows}, indent=1)
        (arguments.out / 'ops_cpu.json').write_text(results + '\n')


if __name__ == '__main__':
    main()
