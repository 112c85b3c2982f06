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
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from isda_suite.checkpoint.atomic import write_atomically
from isda_suite.compat.warning_filters import quiet_imports
from isda_suite.engine.errors import ConfigError

from .model import load_model

PROTOCOLS = {
    'network': 'normalised batch on the device to raw outputs, without post-processing',
    'model': 'normalised batch on the device to final results on the device',
    'end-to-end': '8-bit images in host memory to final results in host memory: transfer, '
    'normalisation, padding, network, post-processing, transfer back',
}
"""What is inside the timed region of each protocol."""

_DTYPES = {'float16': torch.float16, 'bfloat16': torch.bfloat16}


@dataclass(frozen=True)
class SpeedSettings:
    """What to measure.

    Args:
        height: Height of the images in pixels, before the padding of the data preprocessor.
        width: Their width.
        batch_size: Images per pass.
        protocol: One of :data:`PROTOCOLS`.
        amp_dtype: ``float16`` or ``bfloat16`` for automatic mixed precision, ``auto`` for the
            first on a GPU and the second on a CPU, ``None`` for the precision of the weights.
        compiled: Run the model through ``torch.compile``.
        warmup: Passes before the clock starts; they also compile.
        iters: Timed passes.
        seed: Seed of the images and of random weights.
    """

    height: int
    width: int
    batch_size: int = 1
    protocol: str = 'model'
    amp_dtype: str | None = None
    compiled: bool = False
    warmup: int = 5
    iters: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: if one is out of range.
        """
        for name in ('height', 'width', 'batch_size', 'iters'):
            if getattr(self, name) < 1:
                raise ConfigError(f'{name} must be at least 1, got {getattr(self, name)}')
        if self.warmup < 0:
            raise ConfigError(f'warmup must not be negative, got {self.warmup}')
        if self.protocol not in PROTOCOLS:
            raise ConfigError(
                f'protocol must be one of {", ".join(PROTOCOLS)}, got {self.protocol!r}'
            )
        if self.amp_dtype not in (None, 'auto', *_DTYPES):
            raise ConfigError(
                f'amp_dtype must be auto, float16 or bfloat16, got {self.amp_dtype!r}'
            )


def measure_speed(
    config: str | Path | Config,
    settings: SpeedSettings,
    checkpoint: str | Path | None = None,
    device: str = 'auto',
    trust: bool = False,
) -> dict[str, Any]:
    """Time a model's inference on images of noise.

    Args:
        config: File, name of a shipped config, or the config itself.
        settings: What to measure.
        checkpoint: Weights; ``None`` measures random ones, which post-process other numbers of
            instances than trained ones do.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        trust: Read a checkpoint that may run code.

    Returns:
        Times, frames per second, memory, and the conditions, ready for JSON.

    Raises:
        ConfigError: if the config, a setting or the device is wrong.
        CheckpointError: if the checkpoint is damaged, unsafe, or of another model.
    """
    torch.manual_seed(settings.seed)
    before_mb = _resident_mb()
    model = load_model(config, checkpoint, device, trust)
    place = next(model.parameters()).device
    loaded_mb = _resident_mb()
    step, input_hw = _prepare_step(model, settings, place)
    if settings.compiled:
        model.forward = torch.compile(model.forward)
    with torch.no_grad(), _precision(settings, place):
        seconds, gpu_peak = _time_steps(step, settings, place)
    cfg: Any = model.cfg
    return dict(
        config=str(cfg.filename),
        checkpoint=None if checkpoint is None else str(checkpoint),
        settings=asdict(settings) | {'amp_dtype': _amp_name(settings, place)},
        protocol=PROTOCOLS[settings.protocol],
        input_hw=list(input_hw),
        parameters=sum(p.numel() for p in model.parameters()),
        **_statistics(seconds, settings.batch_size),
        memory_mb=dict(
            process_before_model=before_mb,
            process_with_model=loaded_mb,
            process_after=_resident_mb(),
            process_peak=_peak_resident_mb(),
            gpu_peak=gpu_peak,
        ),
        environment=_environment(place),
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
    environment = report['environment']
    peak = (
        f'{memory["gpu_peak"]:.0f} MB on the GPU'
        if memory['gpu_peak'] is not None
        else f'{memory["process_peak"]:.0f} MB of the whole process'
    )
    weights = 'random weights' if report['checkpoint'] is None else report['checkpoint']
    return '\n'.join(
        [
            f'{report["config"]} ({weights})',
            f'protocol  {settings["protocol"]}: {report["protocol"]}',
            f'input     {settings["height"]} x {settings["width"]}, padded to {height} x {width}, '
            f'batch {settings["batch_size"]}, precision {settings["amp_dtype"] or "float32"}, '
            f'compiled {"yes" if settings["compiled"] else "no"}',
            f'device    {environment["device"]}, {environment["threads"]} threads, '
            f'torch {environment["versions"]["torch"]}',
            f'time      median {times["median"]:.1f} ms per batch, p10 {times["p10"]:.1f}, '
            f'p90 {times["p90"]:.1f}, p99 {times["p99"]:.1f} ({settings["iters"]} passes after '
            f'{settings["warmup"]} for warm-up)',
            f'speed     {report["fps"]:.2f} images per second',
            f'memory    peak {peak}',
        ]
    )


def _prepare_step(
    model: nn.Module, settings: SpeedSettings, device: torch.device
) -> tuple[Callable[[], Any], tuple[int, int]]:
    """Make the function to time and find the size the network sees."""
    generator = torch.Generator().manual_seed(settings.seed)
    shape = (3, settings.height, settings.width)
    images = [
        torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        for _ in range(settings.batch_size)
    ]
    samples = [_sample(model, settings.height, settings.width) for _ in images]
    preprocess: Any = model.data_preprocessor
    batch = preprocess(dict(inputs=list(images), data_samples=samples), False)
    inputs, prepared = batch['inputs'], batch['data_samples']
    input_hw = (inputs.shape[-2], inputs.shape[-1])

    def network() -> Any:
        return model.forward(inputs, prepared, mode='tensor')

    def whole_model() -> Any:
        return model.forward(inputs, prepared, mode='predict')

    def end_to_end() -> Any:
        fresh = [_sample(model, settings.height, settings.width) for _ in images]
        data = preprocess(dict(inputs=list(images), data_samples=fresh), False)
        results = model.forward(data['inputs'], data['data_samples'], mode='predict')
        return [result.cpu() for result in results]

    steps = {'network': network, 'model': whole_model, 'end-to-end': end_to_end}
    return steps[settings.protocol], input_hw


def _sample(model: nn.Module, height: int, width: int) -> Any:
    """Make the data sample of an image that no pipeline has resized."""
    meta = dict(
        img_shape=(height, width),
        ori_shape=(height, width),
        pad_shape=(height, width),
        scale_factor=(1.0, 1.0),
        flip=False,
        img_id=0,
    )
    cfg: Any = model.cfg
    with quiet_imports():
        if cfg.get('default_scope') == 'mmseg':
            from mmseg.structures import SegDataSample as Sample
        else:
            from mmdet.structures import DetDataSample as Sample
    return Sample(metainfo=meta)


def _time_steps(
    step: Callable[[], Any], settings: SpeedSettings, device: torch.device
) -> tuple[list[float], float | None]:
    from tqdm import trange

    def wait() -> None:
        if device.type == 'cuda':
            torch.cuda.synchronize(device)

    for _ in trange(settings.warmup, desc='warm-up', unit='pass', leave=False):
        step()
    wait()
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in trange(settings.iters, desc='timed', unit='pass', leave=False):
        start = time.perf_counter()
        step()
        wait()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == 'cuda' else None
    return seconds, peak


def _statistics(seconds: Sequence[float], batch_size: int) -> dict[str, Any]:
    milliseconds = 1000 * np.asarray(seconds)
    p10, median, p90, p99 = np.percentile(milliseconds, [10, 50, 90, 99])
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
        fps=float(1000 * batch_size / median),
    )


def _amp_name(settings: SpeedSettings, device: torch.device) -> str | None:
    if settings.amp_dtype == 'auto':
        return 'float16' if device.type == 'cuda' else 'bfloat16'
    return settings.amp_dtype


def _precision(settings: SpeedSettings, device: torch.device) -> AbstractContextManager[Any]:
    name = _amp_name(settings, device)
    return nullcontext() if name is None else torch.autocast(device.type, _DTYPES[name])


def _resident_mb() -> float | None:
    """Memory of this process now; only Linux says it without another package."""
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20


def _peak_resident_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == 'Darwin' else 2**10)


def _environment(device: torch.device) -> dict[str, Any]:
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
