"""Write predictions to a file, and draw them."""

import inspect
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import print_log

from isda_suite.apis.videos.tracks import is_of_video, merged_videos, video_record
from isda_suite.checkpoint.atomic import write_atomically
from isda_suite.metrics.mask_code import as_array, encode_mask


class PredictionFile(BaseMetric):
    """Collect the predictions of all ranks and write them into one file.

    The file holds a list with one entry for each image: ``img_id``, ``img_path``, ``size_hw``,
    and ``instances`` (a list of ``label``, ``score``, ``bbox`` as xyxy in pixels, and
    ``segmentation`` as COCO RLE where there are masks) or ``sem_seg`` (COCO RLE by class). Of
    videos the entry is ``video_id``, ``video_length``, ``size_hw`` and ``tracks`` (a list of
    ``label``, ``score`` and ``segmentations``: COCO RLE or None for each frame).

    Args:
        path: Ends with ``.json`` or ``.pkl``.
    """

    default_prefix = 'predictions'

    def __init__(self, path: str | Path) -> None:
        super().__init__(collect_device='cpu')
        self.path = Path(path)
        self._open_videos: set[Any] = set()
        self._has_videos = False

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the predictions of one batch in plain form."""
        for sample in data_samples:
            if not is_of_video(sample):
                self.results.append(_plain(sample))
                continue
            self._has_videos = True
            record = video_record(sample)
            if record is None:
                self._open_videos.add(sample['video_id'])
            else:
                self._open_videos.discard(record['video_id'])
                self.results.append(record)

    def evaluate(self, size: int) -> dict[str, float]:
        """Write what all ranks have; of videos a rank may have any number.

        Args:
            size: Number of images.
        """
        if not any(all_gather_object(self._has_videos)):
            return dict(super().evaluate(size))
        parts = all_gather_object((list(self.results), self._open_videos))
        self.results.clear()
        self._open_videos = set()
        return self.compute_metrics(merged_videos(parts)) if is_main_process() else {}

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Write the file; there is nothing to compute."""
        with write_atomically(self.path, text=self.path.suffix == '.json') as file:
            if self.path.suffix == '.json':
                json.dump(results, file)
            else:
                pickle.dump(results, file)
        kind = 'videos' if self._has_videos else 'images'
        print(f'predictions of {len(results)} {kind} are in {self.path}')
        return {}


def _plain(sample: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        'img_id': sample.get('img_id'),
        'img_path': sample.get('img_path'),
        'size_hw': [int(side) for side in sample['ori_shape'][:2]],
    }
    instances = sample.get('pred_instances')
    if instances is not None:
        entry['instances'] = _plain_instances(instances)
    semantic = sample.get('pred_sem_seg')
    if semantic is not None:
        classes = as_array(semantic['data']).squeeze()
        entry['sem_seg'] = {str(c): encode_mask(classes == c) for c in np.unique(classes).tolist()}
    return entry


def _plain_instances(instances: dict[str, Any]) -> list[dict[str, Any]]:
    columns: dict[str, list[Any]] = {
        'label': as_array(instances['labels']).tolist(),
        'score': as_array(instances['scores']).tolist(),
    }
    if instances.get('bboxes') is not None:
        columns['bbox'] = as_array(instances['bboxes']).tolist()
    if instances.get('masks') is not None:
        columns['segmentation'] = [encode_mask(as_array(mask)) for mask in instances['masks']]
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


class DrawPredictions(Hook):
    """Write a picture of each tested image with its predictions.

    Class maps stand beside the image and the labels, if they were loaded; everything else is drawn
    by the visualizer of the run. A video gets a folder with a picture of each frame, in which its
    tracks keep their colours and numbers.

    Args:
        folder: Where the pictures go.
        score_thr: Instances below this score are left out.
    """

    def __init__(self, folder: str | Path, score_thr: float) -> None:
        self.folder = Path(folder)
        self.score_thr = score_thr
        self._used: set[str] = set()
        self._frames: dict[Any, dict[int, str]] = {}

    def after_test_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Draw the images of one batch."""
        from isda_suite.datasets.image_file import read_as_predicted

        for sample in outputs or []:
            if is_of_video(sample):
                self._draw_when_done(sample, runner.visualizer.dataset_meta)
                continue
            image = np.ascontiguousarray(
                read_as_predicted(sample.img_path, sample.ori_shape)[..., ::-1]
            )
            path = self.folder / self._name(sample)
            if 'pred_sem_seg' in sample and 'pred_instances' not in sample:
                _draw_class_maps(path, image, sample, runner.visualizer.dataset_meta)
            else:
                self._draw_by_visualizer(path, image, sample, runner.visualizer)

    def _draw_when_done(self, clip: Any, meta: dict[str, Any]) -> None:
        """Note the frames of a clip; with the last one, draw them all."""
        frames = self._frames.setdefault(clip.video_id, {})
        for number, frame in zip(clip.clip_frames[: clip.num_valid], clip, strict=False):
            frames[int(number)] = frame.img_path
        if not clip.video_done:
            return
        del self._frames[clip.video_id]
        _draw_tracks(self.folder, frames, clip, meta, self.score_thr)

    def _draw_by_visualizer(self, path: Path, image: Any, sample: Any, visualizer: Any) -> None:
        draw = visualizer.add_datasample
        known = inspect.signature(draw).parameters
        options = {'pred_score_thr': self.score_thr} if 'pred_score_thr' in known else {}
        draw(path.name, image, data_sample=sample.cpu(), out_file=str(path), **options)

    def _name(self, sample: Any) -> str:
        stem = Path(sample.img_path).stem
        if stem in self._used:
            stem = f'{stem}_{sample.metainfo.get("img_id", len(self._used))}'
        self._used.add(stem)
        return f'{stem}.png'


def _draw_class_maps(path: Path, image: Any, sample: Any, meta: dict[str, Any]) -> None:
    from isda_suite.visualization.class_maps import draw_class_maps_side_by_side
    from isda_suite.visualization.pictures import save_picture

    pred = as_array(sample.pred_sem_seg.data).squeeze(0)
    gt = as_array(sample.gt_sem_seg.data).squeeze(0) if 'gt_sem_seg' in sample else None
    name = Path(sample.img_path).name
    classes = meta.get('classes') or [f'class {index}' for index in range(int(pred.max()) + 1)]
    palette = meta.get('palette')
    save_picture(path, draw_class_maps_side_by_side(image, gt, pred, classes, palette, name))


def _draw_tracks(
    folder: Path, frames: dict[int, str], video: Any, meta: dict[str, Any], score_thr: float
) -> None:
    from isda_suite.datasets.image_file import read_as_predicted
    from isda_suite.visualization.pictures import save_picture
    from isda_suite.visualization.tubes import TubeSlice, draw_tubes

    tracks = video.pred_tracks
    if 'masks' not in tracks:
        print_log(f'video {video.video_id} has no masks to draw', 'current')
        return
    rows = zip(as_array(tracks.labels).tolist(), as_array(tracks.scores).tolist(), strict=True)
    facts = list(rows)
    ids = as_array(tracks.ids).tolist() if 'ids' in tracks else range(len(facts))
    name = f'{video.video_id}_{Path(frames[min(frames)]).parent.name}'
    for number, path in sorted(frames.items()):
        slices = [
            TubeSlice(identity, label, score, masks[number])
            for identity, (label, score), masks in zip(ids, facts, tracks.masks, strict=True)
        ]
        image = read_as_predicted(path, video.ori_shape)[..., ::-1]
        picture = draw_tubes(image, slices, meta.get('classes'), score_thr)
        save_picture(folder / name / f'{number:05d}.jpg', picture)
