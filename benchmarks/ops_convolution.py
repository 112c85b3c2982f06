"""Deformable convolution beside torchvision's and beside a plain convolution of the same size.

Same protocol as benchmarks/ops.py: one process, the same tensors, alternating blocks, results
compared before anything is timed; the claim is the ratio of CPU times.

    python benchmarks/ops_convolution.py [--threads 1] [--out benchmarks/results]
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from ops import machine, peak_memory_mib, time_blocks, verify
from torch import Tensor


class Case(NamedTuple):
    """Sizes of one call with a 3x3 kernel and padding 1."""

    images: int
    channels: int
    out_channels: int
    size: tuple[int, int]
    version: int = 2


CASES = {
    '256 -> 256, 100x136': Case(1, 256, 256, (100, 136)),
    '256 -> 256, 50x68': Case(1, 256, 256, (50, 68)),
    '64 -> 64, 200x272': Case(1, 64, 64, (200, 272)),
    'DefVisTR mask head, batch 10, 48 -> 24, 80x104': Case(10, 48, 24, (80, 104), version=1),
}

Call = Callable[[], list[Tensor]]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--threads', type=int, default=1, help='default: 1')
    parser.add_argument('--out', type=Path, help='folder for ops_convolution_cpu.md and .json')
    return parser.parse_args()


def make_calls(case: Case, backward: bool) -> dict[str, Call]:
    """Return functions that run one forward, or forward and backward, and give all results."""
    from torchvision.ops import deform_conv2d as torchvisions

    from isda_suite.ops import deform_conv2d

    torch.manual_seed(0)
    b, c, o, size, version = case
    image = torch.randn(b, c, *size)
    weight, bias = torch.randn(o, c, 3, 3) / (9 * c) ** 0.5, torch.randn(o)
    # A thousandth of a pixel off whole numbers: the derivative jumps there.
    offset = torch.randn(b, 18, *size) * 1.5
    offset = offset.floor() + offset.frac().remainder(1).clamp(1e-3, 1 - 1e-3)
    mask = torch.rand(b, 9, *size) if version == 2 else None
    grad = torch.randn(b, o, *size)
    leaves = [t for t in (image, offset, mask, weight, bias) if t is not None]
    for leaf in leaves:
        leaf.requires_grad_(backward)

    def make(forward: Callable[[], Tensor], inputs: list[Tensor]) -> Call:
        def call() -> list[Tensor]:
            output = forward()
            if not backward:
                return [output]
            return [output.detach(), *torch.autograd.grad(output, inputs, grad)]

        return call

    return {
        'torchvision': make(
            lambda: torchvisions(image, offset, weight, bias, padding=1, mask=mask), leaves
        ),
        'conv2d': make(lambda: F.conv2d(image, weight, bias, padding=1), [image, weight, bias]),
        'isda_suite': make(
            lambda: deform_conv2d(image, offset, mask, weight, bias, padding=1), leaves
        ),
    }


def measure(case: Case, backward: bool) -> dict[str, object]:
    """Measure one row of the table."""
    calls = make_calls(case, backward)
    row: dict[str, object] = {
        'pass': 'fwd+bwd' if backward else 'forward',
        'difference': verify(calls['isda_suite'](), calls['torchvision']()),
    }
    memory = {name: peak_memory_mib(call) for name, call in calls.items()}
    timings = time_blocks(calls)
    for name, timing in timings.items():
        row[name] = {
            'cpu_median_ms': statistics.median(timing.cpu) * 1e3,
            'cpu_min_ms': min(timing.cpu) * 1e3,
            'wall_min_ms': min(timing.wall) * 1e3,
            'extra_memory_mib': memory[name],
        }
    ours = min(timings['isda_suite'].cpu)
    row['ratio_to_torchvision'] = min(timings['torchvision'].cpu) / ours
    row['times_conv2d'] = ours / min(timings['conv2d'].cpu)
    return row


def table(rows: list[dict], about: dict[str, object]) -> str:
    """Write the rows as markdown."""
    lines = [
        '# Deformable convolution on the CPU',
        '',
        ', '.join(f'{key} {value}' for key, value in about.items()),
        '',
        'float32, 3x3, padding 1; milliseconds of CPU time, median (minimum) of 6 calls in',
        'alternating blocks, ratios of the minima; memory is the peak beyond the inputs, results',
        'included.',
        '',
        '| case | pass | torchvision | conv2d | isda_suite | torchvision / ours | ours / conv2d '
        '| MiB torchvision | MiB ours |',
        '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ]
    for row in rows:
        cells = [row['case'], row['pass']]
        for name in ('torchvision', 'conv2d', 'isda_suite'):
            cells.append(f'{row[name]["cpu_median_ms"]:.1f} ({row[name]["cpu_min_ms"]:.1f})')
        cells += [f'{row["ratio_to_torchvision"]:.1f}', f'{row["times_conv2d"]:.2f}']
        for name in ('torchvision', 'isda_suite'):
            extra = row[name]['extra_memory_mib']
            cells.append('-' if extra is None else f'{extra:.0f}')
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    """Run the cases and print or write the table."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    about = machine()
    del about['mmcv']
    rows = []
    for name, case in CASES.items():
        for backward in (False, True):
            row = {'case': name, **measure(case, backward)}
            rows.append(row)
            print(name, row['pass'], f'{row["ratio_to_torchvision"]:.1f}x', flush=True)
    text = table(rows, about)
    print(text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / 'ops_convolution_cpu.md').write_text(text)
        results = json.dumps({'machine': about, 'rows': rows}, indent=1)
        (arguments.out / 'ops_convolution_cpu.json').write_text(results + '\n')


if __name__ == '__main__':
    main()
