"""Measure how fast a model is, and write down everything the number depends on.

Frames per second differ by factors with what is inside the timed region, so a result names its
protocol, resolution, batch, precision, device and versions, and gives percentiles beside the
median.
"""

import json
import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from isda_suite.apis.model import load_model
from isda_suite.checkpoint.atomic import write_atomically

from .fast_inference import optimise_for_inference
from .speed_protocols import PROTOCOLS, SpeedSettings, prepare_step

__all__ = ['SpeedSettings', 'describe', 'measure_speed', 'write_report']


def measure_speed(
    config: str | Path | Config,
    settings: SpeedSettings,
    checkpoint: str | Path | None = None,
    device: str = 'auto',
    trust: bool = False,
) -> dict[str, Any]:
    """Time a model's inference on images of noise, or on clips of noise if it takes clips.

    Args:
        config: File, name of a shipped config, or the config itself.
        settings: What to measure.
        checkpoint: Weights; ``None`` measures random ones, which post-process other numbers of
            instances than trained ones do.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        trust: Read a checkpoint that may run code.

    Returns:
        Times, frames per second (of a model of clips also clips per second and their length),
        memory, and the conditions, ready for JSON.

    Raises:
        ConfigError: if the config, a setting or the device is wrong.
        CheckpointError: if the checkpoint is damaged, unsafe, or of another model.
    """
    torch.manual_seed(settings.seed)
    before_mb = _resident_mb()
    model = load_model(config, checkpoint, device, trust)
    place = next(model.parameters()).device
    loaded_mb = _resident_mb()
    optimise_for_inference(model, settings.steps)
    step = prepare_step(model, settings)
    with torch.no_grad():
        seconds = _time_steps(step.run, settings, place)
    cfg: Any = model.cfg
    return dict(
        config=str(cfg.filename),
        checkpoint=None if checkpoint is None else str(checkpoint),
        settings=asdict(settings) | {'amp_dtype': settings.steps.amp_name(place)},
        protocol=PROTOCOLS[settings.protocol].timed,
        input_hw=list(step.input_hw),
        clip_len=step.clip_len,
        parameters=sum(p.numel() for p in model.parameters()),
        **_statistics(seconds, settings, step.clip_len),
        memory_mb=dict(
            process_before_model=before_mb,
            process_with_model=loaded_mb,
            process_after=_resident_mb(),
            process_peak=peak_resident_mb(),
            **_gpu_peaks(place),
        ),
        environment=environment(place),
    )


def write_report(report: dict[str, Any], path: str | Path) -> None:
    """Write a result of :func:`measure_speed` as JSON, whole or not at all."""
    with write_atomically(path, text=True) as file:
        json.dump(report, file, indent=2)
        file.write('\n')


def describe(report: dict[str, Any]) -> str:
    """Put a result of :func:`measure_speed` into a few lines."""
    settings, times, memory = report['settings'], report['time_ms'], report['memory_mb']
    height, width = report['input_hw']
    machine = report['environment']
    peak = (
        f'{memory["gpu_peak"]:.0f} MB on the GPU'
        if memory['gpu_peak'] is not None
        else f'{memory["process_peak"]:.0f} MB of the whole process'
    )
    clips, speed = '', f'{report["fps"]:.2f} images per second'
    if report['clip_len'] is not None:
        clips = f'clips of {report["clip_len"]} frames, '
        speed = f'{report["fps"]:.2f} frames, {report["clips_per_second"]:.3f} clips per second'
    seen = 'timed at' if settings['protocol'] == 'paper' else 'padded to'
    steps = [name for name in ('fused', 'channels_last', 'compiled') if settings[name]]
    weights = 'random weights' if report['checkpoint'] is None else report['checkpoint']
    return '\n'.join(
        [
            f'{report["config"]} ({weights})',
            f'protocol  {settings["protocol"]}: {report["protocol"]}',
            f'input     {settings["height"]} x {settings["width"]}, {seen} {height} x {width}, '
            f'{clips}batch {settings["batch_size"]}, precision {settings["amp_dtype"] or "float32"}'
            f'{"".join(f", {step}" for step in steps)}',
            f'device    {machine["device"]}, {machine["threads"]} threads, '
            f'torch {machine["versions"]["torch"]}',
            f'time      median {times["median"]:.1f} ms per batch, p10 {times["p10"]:.1f}, '
            f'p90 {times["p90"]:.1f}, p99 {times["p99"]:.1f} ({settings["iters"]} passes after '
            f'{settings["warmup"]} for warm-up)',
            f'speed     {speed}',
            f'memory    peak {peak}',
        ]
    )


def _time_steps(
    step: Callable[[], Any], settings: SpeedSettings, device: torch.device
) -> list[float]:
    from tqdm import trange

    def wait() -> None:
        if device.type == 'cuda':
            torch.cuda.synchronize(device)

    warmup, iters = settings.passes
    for _ in trange(warmup, desc='warm-up', unit='pass', leave=False):
        step()
    wait()
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in trange(iters, desc='timed', unit='pass', leave=False):
        start = time.perf_counter()
        step()
        wait()
        seconds.append(time.perf_counter() - start)
    return seconds


def _gpu_peaks(device: torch.device) -> dict[str, float | None]:
    if device.type != 'cuda':
        return dict(gpu_peak=None, gpu_reserved=None)
    return dict(
        gpu_peak=torch.cuda.max_memory_allocated(device) / 2**20,
        gpu_reserved=torch.cuda.max_memory_reserved(device) / 2**20,
    )


def _statistics(
    seconds: Sequence[float], settings: SpeedSettings, clip_len: int | None
) -> dict[str, Any]:
    milliseconds = 1000 * np.asarray(seconds)
    p10, median, p90, p99 = np.percentile(milliseconds, [10, 50, 90, 99])
    typical = milliseconds.mean() if PROTOCOLS[settings.protocol].fps_of_mean else median
    passes = float(1000 * settings.batch_size / typical)
    speed = (
        dict(fps=passes)
        if clip_len is None
        else dict(fps=clip_len * passes, clips_per_second=passes)
    )
    return dict(
        time_ms=dict(
            median=float(median),
            p10=float(p10),
            p90=float(p90),
            p99=float(p99),
            mean=float(milliseconds.mean()),
            min=float(milliseconds.min()),
            max=float(milliseconds.max()),
        ),
        **speed,
    )


def _resident_mb() -> float | None:
    """Memory of this process now; only Linux says it without another package."""
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20


def peak_resident_mb() -> float:
    """Return the most memory this process has held at any time."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == 'Darwin' else 2**10)


def environment(device: torch.device) -> dict[str, Any]:
    """Return what a run depends on: device, threads, platform, versions, date."""
    import mmcv
    import mmdet
    import mmengine
    import mmseg

    import isda_suite

    modules = (torch, mmengine, mmcv, mmdet, mmseg, isda_suite)
    versions = {module.__name__: str(module.__version__) for module in modules}
    is_gpu = device.type == 'cuda'
    return dict(
        device=torch.cuda.get_device_name(device) if is_gpu else _cpu_name(),
        device_type=device.type,
        threads=torch.get_num_threads(),
        cuda=torch.version.cuda if is_gpu else None,
        cudnn_benchmark=torch.backends.cudnn.benchmark,
        tf32=torch.backends.cuda.matmul.allow_tf32,
        platform=platform.platform(),
        python=platform.python_version(),
        versions=versions,
        date=datetime.now(timezone.utc).isoformat(timespec='seconds'),
    )


def _cpu_name() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()
