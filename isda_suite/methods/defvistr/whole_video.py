"""Videos that come clip by clip: the state between clips, and the result with the last one."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from mmdet.structures import TrackDataSample
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmengine.structures import InstanceData
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.option_checks import require_known

from .linking import ClipLinker
from .postprocess import clip_tracks, count_votes, frame_scores, voted_label

NEEDED = ('video_id', 'video_length', 'ori_shape', 'clip_frames', 'num_valid', 'is_last_clip')


class VideoTracks:
    """Collect the clips of one video after the other.

    Only one video is open at a time; the first clip of the next one closes it, whether it was
    complete or not (an evaluation may have been stopped).

    Args:
        test_cfg: Options of :func:`.postprocess.clip_tracks` (``mask_thr``, ``null_score``,
            ``drop_class_zero``, ``score``) and of :class:`.linking.ClipLinker` (``overlap``,
            ``iou_thr``, ``class_weight``).

    Raises:
        ModelConfigError: for an unknown option.
    """

    def __init__(self, test_cfg: Mapping[str, Any]) -> None:
        decoding, linking = (
            {
                name
                for name, parameter in inspect.signature(function).parameters.items()
                if parameter.kind is parameter.KEYWORD_ONLY
            }
            - {'img_shape', 'stride', 'keep_tracks'}
            for function in (clip_tracks, ClipLinker)
        )
        linking.add('overlap')
        require_known('test_cfg', test_cfg, sorted(decoding | linking))
        self._decoding = {name: value for name, value in test_cfg.items() if name in decoding}
        self._linking = {name: value for name, value in test_cfg.items() if name in linking}
        self.new_linker()  # says at once what is wrong with the options
        self._video: Any = None
        self._linker: ClipLinker | None = None

    @property
    def mask_thr(self) -> float:
        """Threshold of the masks."""
        default = inspect.signature(clip_tracks).parameters['mask_thr'].default
        return float(self._decoding.get('mask_thr', default))

    def push(
        self,
        sample: TrackDataSample,
        cls_logits: Tensor,
        boxes: Tensor,
        mask_logits: Tensor | None,
    ) -> TrackDataSample:
        """Take the next clip.

        Args:
            sample: The clip; its ``metainfo`` holds ``video_id``, ``video_length`` L, ``ori_shape``
                (h, w), ``clip_frames`` (T numbers), ``num_valid`` (how many of them, at the
                start, are distinct), ``is_last_clip``, and maybe ``clip_overlap``, which counts
                before that of ``test_cfg``; that of its frames ``img_shape``.
            cls_logits: (K, T, num_classes + 2).
            boxes: (K, T, 4) relative (cx, cy, w, h); used where there are no masks.
            mask_logits: (K, T, h4, w4), or ``None`` from a model without masks.

        Returns:
            The same sample with ``video_done`` in its ``metainfo`` and, for the last clip,
            ``pred_tracks``: ``scores`` (N,), ``labels`` (N,) from 0, ``masks`` (N lists of L
            run-length codes or ``None``), ``ids`` (N,). Without masks see :func:`clip_boxes`.

        Raises:
            ModelConfigError: if an entry is missing, a video begins in its middle, or a model
                without masks is given a video longer than a clip.
        """
        meta = _complete_meta(sample)
        frames = list(meta['clip_frames'])[: meta['num_valid']]
        if mask_logits is None:
            return self._boxes(sample, cls_logits[:, : len(frames)], boxes[:, : len(frames)])
        linker = self._linker_of(meta, frames[0])
        linker.push(self.decode(sample, cls_logits, mask_logits), frames)
        done = bool(meta['is_last_clip'])
        sample.set_metainfo({'video_done': done})
        if done:
            self._video, self._linker = None, None
            tracks: InstanceData = linker.finish(meta['video_length'])[1]
            sample.pred_tracks = tracks
        return sample

    def decode(
        self, sample: TrackDataSample, cls_logits: Tensor, mask_logits: Tensor | None
    ) -> InstanceData:
        """Decode a clip on its own, see :func:`.postprocess.clip_tracks`.

        Args:
            sample: As for :meth:`push`, like the next two.
            cls_logits: See there.
            mask_logits: See there.

        Raises:
            ModelConfigError: if an entry is missing, or there are no masks.
        """
        meta = _complete_meta(sample)
        if mask_logits is None:
            raise ModelConfigError(
                'a model without masks has nothing that clips could be linked by: give the head a '
                'mask_branch'
            )
        return clip_tracks(
            cls_logits,
            mask_logits,
            meta['num_valid'],
            tuple(meta['ori_shape'][:2]),
            img_shape=tuple(sample.video_data_samples[0].img_shape[:2]),
            **self._decoding,
        )

    def new_linker(self, overlap: int | None = None, keep_tracks: bool = True) -> ClipLinker:
        """Make the linker of a video.

        Args:
            overlap: Frames that clips share; ``None`` takes that of ``test_cfg``, or 0.
            keep_tracks: See :class:`.linking.ClipLinker`.
        """
        options = {'overlap': 0, **self._linking, 'keep_tracks': keep_tracks}
        if overlap is not None:
            options['overlap'] = overlap
        if 'score' in self._decoding:
            options['score'] = self._decoding['score']
        return ClipLinker(**options)

    def _boxes(self, sample: TrackDataSample, cls_logits: Tensor, boxes: Tensor) -> TrackDataSample:
        length = sample.metainfo['video_length']
        if length != cls_logits.shape[1]:
            raise ModelConfigError(
                f'video {sample.metainfo["video_id"]!r}: a model without masks takes videos of at '
                f'most one clip, as clips are linked by their masks; the video has {length} '
                f'frames, the clip {cls_logits.shape[1]}'
            )
        out_shape = tuple(sample.metainfo['ori_shape'][:2])
        drop = self._decoding.get('drop_class_zero', True)
        sample.set_metainfo({'video_done': True})
        sample.pred_tracks = clip_boxes(cls_logits, boxes, out_shape, drop)
        return sample

    def _linker_of(self, meta: Mapping[str, Any], start: int) -> ClipLinker:
        video = meta['video_id']
        if start == 0:
            self._video, self._linker = video, self.new_linker(meta.get('clip_overlap'))
        if self._linker is None or video != self._video:
            raise ModelConfigError(
                f'video {video!r}: its first clip here starts at frame {start}; the clips of a '
                'video must come in order, from frame 0, all to one process'
            )
        return self._linker


def _complete_meta(sample: TrackDataSample) -> dict[str, Any]:
    meta: dict[str, Any] = sample.metainfo
    missing = [name for name in NEEDED if name not in meta]
    if missing:
        raise ModelConfigError(
            f'metainfo of a clip: missing {", ".join(missing)}; found '
            f'{", ".join(sorted(meta)) or "nothing"}: pack clips with isda_suite.PackClipInputs'
        )
    return meta


def clip_boxes(
    cls_logits: Tensor, boxes: Tensor, out_shape: tuple[int, int], drop_class_zero: bool
) -> InstanceData:
    """Decode the boxes of one clip, of all instances.

    Args:
        cls_logits: (K, L, num_classes + 2).
        boxes: (K, L, 4) relative (cx, cy, w, h).
        out_shape: (h, w) of the video.
        drop_class_zero: As for :func:`.postprocess.clip_tracks`.

    Returns:
        ``scores`` (K,), the mean over frames, ``labels`` (K,), ``bboxes`` (K, L, 4) xyxy pixels
        and ``frame_scores`` (K, L), on the CPU.
    """
    scores, labels = frame_scores(cls_logits, drop_class_zero)
    h, w = out_shape
    voted = [voted_label(count_votes(row)) for row in labels.cpu().numpy()]
    return InstanceData(
        scores=scores.mean(-1).cpu(),
        labels=torch.tensor(voted, dtype=torch.long),
        bboxes=(bbox_cxcywh_to_xyxy(boxes) * boxes.new_tensor([w, h, w, h])).cpu(),
        frame_scores=scores.cpu(),
    )
