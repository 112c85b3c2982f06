"""Video AP by the official rules, while a model is tested.

A metric, but not in ``isda_suite.metrics``: it reads and writes files by the rules of ours.
"""

import math
from collections.abc import Sequence
from typing import Any

from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get_local_path
from mmengine.logging import MMLogger

from isda_suite.datasets.youtube_vis_file import read_youtube_vis
from isda_suite.engine.errors import ConfigError
from isda_suite.metrics.youtube_vis_evaluation import (
    Cell,
    evaluate_tracks,
    tracks_of_file,
    tracks_of_results,
)
from isda_suite.metrics.youtube_vis_tracks import Track
from isda_suite.registry import METRICS

from .evaluation import Json, summarize
from .results_file import check_annotations, write_results
from .tracks import merged_videos, video_record


@METRICS.register_module()
class YouTubeVISMetric(BaseMetric):
    """Average precision and recall of tracks as YouTube-VIS defines them.

    Reads the annotation file as published. Different from mmdet's metric: sizes are those of masks
    and not of boxes, values are not rounded, all 12 numbers are given, categories are mapped by
    name, nothing found gives 0.0 and nothing annotated nan, each with a warning.

    Keys: ``segm_mAP``, ``_50``, ``_75``, ``_s``, ``_m``, ``_l``, ``segm_AR@1``, ``@10``, ``@100``,
    ``segm_AR_s@100``, ``_m``, ``_l``.

    Samples hold ``video_id`` and ``video_done``; where that is true also ``video_length`` and
    ``pred_tracks`` (``scores``, ``labels``, ``masks``: a list for each track with an RLE or None
    for each frame). Label -1 stands for category 0, which never counts.

    Args:
        ann_file: Annotation file; ``None`` takes the one that the evaluated data set names in
            ``metainfo['ann_file']``.
        metric: ``'segm'``, the only one.
        classwise: Whether the results also hold the AP of every class; the table of classes is
            logged anyway.
        format_only: Whether to write the files for an evaluation server and evaluate nothing.
        outfile_prefix: Where to write ``PREFIX.json`` and ``PREFIX.zip``.
        backend_args: How mmengine gets the annotation file.
        prefix: Of the keys.
        collect_device: Not used: ranks exchange plain objects.

    Raises:
        ConfigError: if the metric is another, or ``format_only`` is given without
            ``outfile_prefix``.
    """

    default_prefix = 'youtube_vis'

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str = 'segm',
        classwise: bool = False,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        backend_args: dict[str, Any] | None = None,
        prefix: str | None = None,
        collect_device: str = 'cpu',
    ) -> None:
        if metric != 'segm':
            raise ConfigError(f"metric of isda_suite.YouTubeVISMetric must be 'segm': {metric!r}")
        if format_only and not outfile_prefix:
            raise ConfigError('format_only=True needs outfile_prefix: where to write the results')
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file = ann_file
        self.classwise = classwise
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.backend_args = backend_args
        self._content: Json | None = None
        self._annotated: dict[Cell, list[Track]] = {}
        self._open: set[Any] = set()

    def process(self, data_batch: Any, data_samples: Sequence[Json]) -> None:
        """Store the tracks of the videos that are done.

        Args:
            data_batch: Not used.
            data_samples: See the class.

        Raises:
            DataError: at the first batch, if nothing is annotated.
            ValueError: if a sample is not of this form.
        """
        if is_main_process():
            self._load_content()
        for sample in data_samples:
            record = video_record(sample)
            if record is None:
                self._open.add(sample['video_id'])
            else:
                self._open.discard(record['video_id'])
                self.results.append(record)

    def evaluate(self, size: int) -> dict[str, float]:
        """Evaluate the videos of all ranks; a rank may have none.

        Args:
            size: Not used: several samples may be of one video.

        Returns:
            The values by key with the prefix, on every rank.
        """
        parts = all_gather_object((list(self.results), self._open))
        self.results.clear()
        self._open = set()
        values: list[dict[str, float] | None] = [None]
        if is_main_process():
            found = self.compute_metrics(merged_videos(parts))
            values = [{f'{self.prefix}/{key}': value for key, value in found.items()}]
        broadcast_object_list(values)
        return values[0] or {}

    def compute_metrics(self, results: list[Json]) -> dict[str, float]:
        """Evaluate, or write, the tracks of all videos.

        Args:
            results: The record of each video.

        Returns:
            The values by key, see the class; empty with ``format_only``.

        Raises:
            ConfigError: if a class or a video is absent from the annotation file.
        """
        content = self._load_content()
        entries = self._entries(results, content)
        if self.outfile_prefix:
            paths = write_results(entries, self.outfile_prefix)
            MMLogger.get_current_instance().info('results written to %s and %s', *paths)
        return {} if self.format_only else self._evaluate(entries, content, results)

    def _load_content(self) -> Json:
        if self._content is not None:
            return self._content
        path = self.ann_file or (self.dataset_meta or {}).get('ann_file')
        if path is None:
            raise ConfigError(
                'no ground truth: give ann_file to isda_suite.YouTubeVISMetric, or evaluate a data '
                "set that names its file in metainfo['ann_file'], as those of isda_suite do in "
                'test mode'
            )
        with get_local_path(path, backend_args=self.backend_args) as local_path:
            content = read_youtube_vis(local_path)
        if not self.format_only:
            check_annotations(content, str(path))
            self._annotated = tracks_of_file(content)
        # The masks are needed no more.
        self._content = {key: content[key] for key in ('videos', 'categories')}
        return self._content

    def _category_ids(self, content: Json) -> list[Any]:
        """Return the category id of every label, matched by name, and that of label -1."""
        ids = {one['name']: one['id'] for one in content['categories']}
        classes = (self.dataset_meta or {})['classes']
        missing = [name for name in classes if name not in ids]
        if missing:
            raise ConfigError(
                f'classes {missing[:5]} are not in the annotation file of the metric, which has '
                f'{list(ids)[:10]}'
            )
        return [*(ids[name] for name in classes), None if 0 in ids.values() else 0]

    def _entries(self, results: list[Json], content: Json) -> list[Json]:
        """Return the results file: in the order of the annotation file."""
        categories = self._category_ids(content)
        order = {video['id']: position for position, video in enumerate(content['videos'])}
        unknown = [one['video_id'] for one in results if one['video_id'] not in order]
        if unknown:
            raise ConfigError(
                f'videos {unknown[:5]} are not in the annotation file of the metric: it must be '
                'that of the tested data'
            )
        entries = []
        for record in sorted(results, key=lambda one: order[one['video_id']]):
            for track in record['tracks']:
                category = categories[track['label']]
                if category is not None:
                    segmentations = track['segmentations']
                    entries.append(
                        {
                            'video_id': record['video_id'],
                            'score': track['score'],
                            'category_id': category,
                            'segmentations': segmentations,
                        }
                    )
        return entries

    def _evaluate(
        self, entries: list[Json], content: Json, results: list[Json]
    ) -> dict[str, float]:
        logger = MMLogger.get_current_instance()
        seen = {record['video_id'] for record in results}
        if len(seen) < len(content['videos']):
            logger.info(f'{len(seen)} of {len(content["videos"])} annotated videos evaluated')
        chosen = set(self._category_ids(content)[:-1])
        categories = [one for one in content['categories'] if one['id'] in chosen]
        annotated = {cell: tracks for cell, tracks in self._annotated.items() if cell[0] in seen}
        evaluation = evaluate_tracks(annotated, tracks_of_results(entries, content), sorted(chosen))
        found = summarize(evaluation, categories)
        if math.isnan(found.numbers['mAP']) or not entries:
            reason = 'nothing was found' if annotated else 'nothing is annotated'
            logger.warning(f'segm: {reason} in {len(seen)} videos')
        logger.info(f'segm by class:\n{found.class_table()}')
        logger.info(f'segm:\n{found.official_lines()}')
        values = {f'segm_{key}': value for key, value in found.numbers.items()}
        if self.classwise:
            values |= {f'segm_{row}_mAP': one['mAP'] for row, one in found.per_class.items()}
        return values
