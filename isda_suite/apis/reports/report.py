"""The report of a test: one HTML file with everything to look at, made while the model is tested.

A hook of the test loop, and no metric: whatever happens in here, the metrics are computed and
given back as without it. Nothing is predicted a second time; of an image a few hundred bytes are
kept, and the masks of the few that are drawn.
"""

import hashlib
import platform
import shlex
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log

from isda_suite.apis.performance.speed import environment, peak_resident_mb
from isda_suite.apis.videos.tracks import is_of_video
from isda_suite.checkpoint.atomic import write_atomically
from isda_suite.metrics.coco import CocoMetric
from isda_suite.visualization.html_page import Html, folded, page, paragraph, row, table

from .instances import AnnotatedImages, InstanceCollector
from .parts import Section
from .semantic import SemanticCollector
from .videos import VideoCollector

_WARNING = 30
_BLOCK = 2**20


@dataclass(frozen=True)
class ReportSettings:
    """What a report is of and holds.

    Args:
        path: The file.
        config: Name of the configuration.
        config_text: The configuration with its bases merged.
        checkpoint: The weights.
        num_shown: How many of the best images to draw, and of the worst.
        score_thr: Instances from this score on are drawn and count as confusions.
        ignore_index: Value of pixels of a label that do not count.
    """

    path: Path
    config: str
    config_text: str
    checkpoint: str
    num_shown: int = 4
    score_thr: float = 0.3
    ignore_index: int = 255


class ReportHook(Hook):
    """Watch a test and write its report, from the first process.

    Args:
        settings: What the report is of and holds.
    """

    priority = 'LOWEST'

    def __init__(self, settings: ReportSettings) -> None:
        self.settings = settings
        self._collector: Any = None
        self._failure = ''
        self._started = self._ended = self._own = 0.0
        self._num_samples = 0

    def before_test_epoch(self, runner: Any) -> None:
        """Start the clock."""
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._started = self._ended = time.perf_counter()

    def after_test_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Keep what the report needs of a batch."""
        before = time.perf_counter()
        samples = list(outputs or ())
        self._num_samples += sum(map(_num_images, samples))
        if samples and not self._failure:
            try:
                self._keep(runner, samples)
            except Exception:  # a report must never cost the numbers
                self._failure = traceback.format_exc()
        self._ended = time.perf_counter()
        self._own += self._ended - before

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Gather what all ranks have and write the report."""
        clock = self._num_samples, self._ended - self._started - self._own, self._own
        payload = None
        if self._collector is not None and not self._failure:
            payload = self._collector.payload()
        memory = peak_resident_mb(), _peak_gpu_mb()
        # Every rank takes part exactly once, also one that has failed.
        parts = all_gather_object((payload, self._failure, clock, memory))
        if is_main_process():
            self._write(runner, metrics or {}, parts)
        self._collector = None

    def _keep(self, runner: Any, samples: list[Any]) -> None:
        if self._collector is None:
            self._collector = _collector_for(runner, samples[0], self.settings)
        if isinstance(self._collector, VideoCollector):
            for sample in samples:
                self._collector.add(sample)
            return
        plain = [sample.to_dict() for sample in samples]
        for sample, record in zip(plain, _records_of(runner, plain), strict=True):
            self._collector.add(sample, record)

    def _write(self, runner: Any, metrics: Mapping[str, Any], parts: Sequence[Any]) -> None:
        failures = [failure for _, failure, *_ in parts if failure]
        sections: list[Section] = []
        if not failures and self._collector is not None:
            try:
                payloads = [payload for payload, *_ in parts if payload is not None]
                sections = self._collector.sections(payloads)
            except Exception:
                failures.append(traceback.format_exc())
        try:
            content = self._page(runner, metrics, parts, sections, failures)
            with write_atomically(self.settings.path, text=True) as file:
                file.write(content)
        except Exception:
            failures.append(traceback.format_exc())
            print_log(f'no report was written: {failures[-1]}', 'current', _WARNING)
            return
        if failures:
            print_log(f'the report lacks pictures: {failures[0]}', 'current', _WARNING)
        print_log(f'the report is in {self.settings.path}', 'current')

    def _page(
        self,
        runner: Any,
        metrics: Mapping[str, Any],
        parts: Sequence[Any],
        sections: Sequence[Section],
        failures: Sequence[str],
    ) -> str:
        device = next(runner.model.parameters()).device
        facts = environment(device)
        first: list[Section] = [
            (
                'Metrics and speed',
                [row(_metrics_table(metrics), Html(''.join(_speed(parts, facts))))],
            ),
        ]
        failed: list[Section] = []
        if failures:
            text = 'A part of this report could not be made; the metrics are not touched by that.'
            failed.append(('Failure', [paragraph(text), folded('What happened', failures[0])]))
        name = Path(self.settings.config).stem
        return page(
            f'{name}: test report',
            f'{self.settings.checkpoint} · {facts["date"]}',
            [*first, *failed, *sections, ('Origin', _origin(self.settings, facts))],
        )


def _num_images(sample: Any) -> int:
    return int(sample.get('num_valid', 1)) if is_of_video(sample) else 1


def _records_of(runner: Any, samples: list[Any]) -> list[Any]:
    """Return what CocoMetric has made of these samples already, whose masks are encoded."""
    for metric in runner.test_loop.evaluator.metrics:
        if isinstance(metric, CocoMetric):
            last = metric.results[-len(samples) :]
            if [one['img_id'] for one in last] == [one.get('img_id') for one in samples]:
                return last
    return [None] * len(samples)


def _collector_for(runner: Any, sample: Any, settings: ReportSettings) -> Any:
    dataset = runner.test_loop.dataloader.dataset
    meta = dataset.metainfo
    classes = [str(name) for name in meta.get('classes') or ()]
    if is_of_video(sample):
        path = meta.get('ann_file')
        if path is None:
            raise ValueError('the data set does not name its annotation file in metainfo')
        return VideoCollector(path, classes, settings.num_shown, settings.score_thr)
    if 'pred_sem_seg' in sample and 'pred_instances' not in sample:
        palette = meta.get('palette')
        return SemanticCollector(classes, palette, settings.num_shown, settings.ignore_index)
    return InstanceCollector(
        AnnotatedImages(dataset), classes, settings.num_shown, settings.score_thr
    )


def _metrics_table(metrics: Mapping[str, Any]) -> Html:
    if not metrics:
        return paragraph('No metric was computed.')
    rows = [
        [name, f'{value:.4f}' if isinstance(value, float | np.floating) else str(value)]
        for name, value in metrics.items()
    ]
    return table(['metric', 'value'], rows)


def _peak_gpu_mb() -> float | None:
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None


def _speed(parts: Sequence[Any], facts: Mapping[str, Any]) -> list[Html]:
    clocks = [clock for *_, clock, _ in parts]
    memories = [memory for *_, memory in parts]
    count = sum(number for number, *_ in clocks)
    seconds = max(seconds for _, seconds, _ in clocks)
    rows: list[list[Any]] = [
        ['images a second', count / seconds if seconds > 0 else float('nan')],
        ['images', count],
        ['seconds', seconds],
        ['processes', len(parts)],
        ['device', facts['device']],
        ['most memory of a process, MB', max(host for host, _ in memories)],
    ]
    gpus = [gpu for _, gpu in memories if gpu is not None]
    if gpus:
        rows.append(['most memory allocated on a GPU, MB', max(gpus)])
    note = (
        'Of the whole loop: loading, network, post-processing and counting, from the first image '
        f'on; without the {max(own for *_, own in clocks):.1f} s that this report took. '
        'tools/fps_test.py measures the model alone.'
    )
    return [table(['', ''], rows), paragraph(note, faint=True)]


def _origin(settings: ReportSettings, facts: Mapping[str, Any]) -> list[Html]:
    rows = [
        ['command', shlex.join(sys.argv)],
        ['configuration', settings.config],
        ['checkpoint', settings.checkpoint],
        ['its SHA-256', _sha256(settings.checkpoint)],
        ['rank and processes', f'{get_rank()} of {get_world_size()}'],
        ['Python', platform.python_version()],
        ['platform', facts['platform']],
        *([name, version] for name, version in facts['versions'].items()),
        *([key, str(facts[key])] for key in ('cuda', 'threads', 'cudnn_benchmark', 'tf32')),
    ]
    return [table(['', ''], rows), folded('The whole configuration', settings.config_text)]


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    try:
        with Path(path).open('rb') as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        return f'not known: {error}'
    return digest.hexdigest()
