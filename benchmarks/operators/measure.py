"""One case: every implementation verified, then timed; one row for each."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .cases import LEAVES, Case, Operands, map_tensors
from .clocks import Call, Timing, graph_of, peak_memory_mb, time_on_cpu, time_on_gpu
from .implementations import OURS, Implementation, find
from .limits import limits_ms, work_of

TOLERANCE = 1e-4
"""Largest norm-relative difference to an anchor, float32."""

TOLERANCES_TO_FLOAT64 = {'float16': 2e-3, 'bfloat16': 8e-3}
"""The same to our float64 results for the rounded operands: one rounding of the result."""

_L2_BYTES = 4 * 60e6  # what the operands of all sets on a GPU exceed
_MOST_SETS = 16

Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How to measure: what the command line says, and the CPU variant in use."""

    device: str = 'cpu'
    dtype: str = 'float32'
    threads: int = 1
    isa: str | None = None


class WrongResult(Exception):
    """Two implementations disagree, so there is nothing to compare."""


def measure(
    name: str, case: Case, sampling: str, backward: bool, settings: Settings
) -> tuple[list[Row], dict[str, str]]:
    """Measure a case with all implementations.

    Args:
        name: of the case.
        case: its sizes.
        sampling: ``local`` or ``uniform``.
        backward: forward and backward instead of forward alone.
        settings: device, dtype, threads.

    Returns:
        One row for each implementation, ours last; and those that are missing with the reason.

    Raises:
        WrongResult: if ours and another result differ by more than the tolerance.
    """
    found, missing = find(case, settings.device)
    if OURS not in found:
        return [], missing
    operands = case.make(sampling, getattr(torch, settings.dtype))
    calls, differences, failed = _verified_calls(name, case, found, operands, backward, settings)
    missing |= failed
    memory = {anchor: peak_memory_mb(call, settings.device) for anchor, call in calls.items()}
    recorded: dict[str, bool] = {}
    if settings.device == 'cuda':
        chosen = {anchor: found[anchor] for anchor in calls}
        timings, recorded = _time_graphs(chosen, case, sampling, backward, settings)
    else:
        timings = time_on_cpu(calls)
    about = {'case': name, 'pass': 'fwd+bwd' if backward else 'fwd', 'sampling': sampling}
    extra = {
        anchor: {
            'peak_mb': memory[anchor],
            'difference': differences.get(anchor),
            'graph': recorded.get(anchor),
        }
        for anchor in timings
    }
    limits = limits_ms(
        case, backward, settings.device, settings.dtype, settings.isa, settings.threads
    )
    return _rows(about, timings, extra, limits, settings), missing


def _verified_calls(
    name: str,
    case: Case,
    found: dict[str, Implementation],
    operands: Operands,
    backward: bool,
    settings: Settings,
) -> tuple[dict[str, Call], dict[str, float], dict[str, str]]:
    """Call every implementation once and compare the results.

    Returns:
        What to call for each that works, differences to ours, and why the others failed.
    """
    calls: dict[str, Call] = {}
    differences: dict[str, float] = {}
    failed: dict[str, str] = {}
    expected = bind(found[OURS], operands, case, backward, settings)()
    for anchor, implementation in found.items():
        call = bind(implementation, operands, case, backward, settings)
        try:
            results = call()
        except Exception as error:
            if anchor == OURS:
                raise
            # Others may fail in any way: memory, dtypes, kernels that were not built.
            failed[anchor] = ' '.join(str(error).split())[:200] or type(error).__name__
            continue
        calls[anchor] = call
        if implementation.comparable and anchor != OURS:
            differences[anchor] = difference(expected, results)
    differences[OURS] = _verify(name, case, operands, backward, settings, expected, differences)
    return calls, differences, failed


def bind(
    implementation: Implementation,
    operands: Operands,
    case: Case,
    backward: bool,
    settings: Settings,
) -> Call:
    """Return a function that runs one forward, or forward and backward, and gives all results."""
    leaves = implementation.leaves or LEAVES[case.operator]
    prepared: Any = map_tensors(operands, lambda tensor: tensor.to(settings.device))
    prepared = implementation.prepare(prepared)
    prepared = map_tensors(prepared, lambda t: t.detach().requires_grad_(backward), leaves)
    inputs = [getattr(prepared, leaf) for leaf in leaves if getattr(prepared, leaf) is not None]
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(case.output_shape, generator=generator).to(inputs[0])

    def call() -> list[Tensor]:
        with torch.set_grad_enabled(backward):
            output = implementation.forward(prepared)
        if not backward:
            return [output]
        return [output.detach(), *torch.autograd.grad(output, inputs, grad)]

    return call


def difference(ours: list[Tensor], others: list[Tensor]) -> float:
    """Return the largest norm-relative difference of two lists of results."""
    return max(
        float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-30))
        for a, b in zip(ours, others, strict=True)
    )


def _verify(
    name: str,
    case: Case,
    operands: Operands,
    backward: bool,
    settings: Settings,
    results: list[Tensor],
    differences: dict[str, float],
) -> float:
    """Refuse to time wrong results; returns the largest difference that counts.

    In 16 bits the anchors round otherwise than ours, so it is our float64 that counts; also where
    there is no anchor.
    """
    tolerance, against = TOLERANCES_TO_FLOAT64.get(settings.dtype, TOLERANCE), differences
    if settings.dtype in TOLERANCES_TO_FLOAT64 or not differences:
        exact = map_tensors(
            operands, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor
        )
        ours = find(case, settings.device)[0][OURS]
        float64 = bind(ours, exact, case, backward, settings)()
        against = {'float64': difference(results, float64)}
    for other, found in against.items():
        if not found < tolerance:
            raise WrongResult(
                f'{name}: {OURS} and {other} differ by {found:.2g}, allowed is {tolerance:g}; '
                'nothing was timed'
            )
    return max(against.values())


def _time_graphs(
    implementations: dict[str, Implementation],
    case: Case,
    sampling: str,
    backward: bool,
    settings: Settings,
) -> tuple[dict[str, Timing], dict[str, bool]]:
    """Time on a GPU, with as many sets of operands as it takes to exceed the L2 cache.

    Returns:
        Times, and whether a graph was replayed: what cannot be recorded is called, and what it
        costs to start is part of its time.
    """
    dtype = getattr(torch, settings.dtype)
    compulsory = work_of(case, settings.dtype, backward=False).compulsory
    count = min(_MOST_SETS, int(_L2_BYTES / compulsory) + 1)
    sets = [case.make(sampling, dtype, seed) for seed in range(count)]
    replays: dict[str, Call] = {}
    recorded: dict[str, bool] = {}
    for name, implementation in implementations.items():
        calls = [bind(implementation, one, case, backward, settings) for one in sets]

        def run_all(calls: list[Call] = calls) -> None:
            for call in calls:
                call()

        try:
            replays[name] = graph_of(run_all)
        except RuntimeError:
            torch.cuda.synchronize()
            replays[name] = run_all
        recorded[name] = replays[name] is not run_all
    return time_on_gpu(replays, count), recorded


def _rows(
    about: Row,
    timings: dict[str, Timing],
    extra: dict[str, Row],
    limits: dict[str, float],
    settings: Settings,
) -> list[Row]:
    # Of one thread CPU time is what counts: wall time includes what other programs take away.
    clock = 1 if settings.device == 'cpu' and settings.threads == 1 else 0
    medians = {name: timing.medians()[clock] for name, timing in timings.items()}
    minima = {name: timing.minima()[clock] for name, timing in timings.items()}
    rows = []
    for name, timing in timings.items():
        row = {
            **about,
            'implementation': name,
            'device': settings.device,
            'dtype': settings.dtype,
            'threads': settings.threads,
            'isa': settings.isa,
            'clock': 'cpu' if clock else ('wall' if settings.device == 'cpu' else 'events'),
            'median_ms': medians[name],
            'min_ms': minima[name],
            'ratio': {o: medians[o] / medians[name] for o in timings if o != name},
            'ratio_of_minima': {o: minima[o] / minima[name] for o in timings if o != name},
            'calls': len(timing.wall),
            'steady': timing.steady() if clock else None,
            **extra[name],
        }
        if settings.device == 'cpu':
            row['wall_median_ms'], row['cpu_median_ms'] = timing.medians()
            row['wall_min_ms'], row['cpu_min_ms'] = timing.minima()
        if limits and extra[name]['difference'] is not None:
            row['limit_ms'], row['limit_by'] = max((t, by) for by, t in limits.items())
        rows.append(row)
    return rows
