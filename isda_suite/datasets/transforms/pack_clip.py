"""Pack a clip for a model."""

from typing import Any, ClassVar

import numpy as np
from mmdet.datasets.transforms import PackTrackInputs

from isda_suite.registry import TRANSFORMS

_FRAME_META = (
    'img_id',
    'img_path',
    'ori_shape',
    'img_shape',
    'scale_factor',
    'flip',
    'flip_direction',
    'frame_id',
    'video_id',
    'video_length',
    'ori_video_length',
)


@TRANSFORMS.register_module()
class PackClipInputs(PackTrackInputs):
    """Pack a clip as mmdet packs a video, with what is known about the clip as a whole.

    ``inputs`` is (T, 3, H, W) uint8. The ``TrackDataSample`` has the T frames with
    ``gt_instances`` (``bboxes`` xyxy px, ``labels``, ``masks``, ``instances_ids``, and ``valid``
    where ``LoadClipAnnotations`` loaded it); its ``metainfo`` has ``video_id``, ``video_length``
    (of the whole video), ``clip_frames`` and what else the data set says.

    Args:
        recompute_valid: Whether instances without a pixel left, cropped away or too thin after
            resizing, are no longer valid; the original keeps them as targets with an empty mask.
        reject_empty: Whether a clip without a valid instance is given back (``None``), so that the
            data set draws another one.
        **kwargs: Arguments of mmdet's ``PackTrackInputs``.
    """

    mapping_table: ClassVar[dict[str, str]] = {
        **PackTrackInputs.mapping_table,
        'gt_valid': 'valid',
    }

    def __init__(
        self,
        recompute_valid: bool = True,
        reject_empty: bool = False,
        default_meta_keys: tuple[str, ...] = _FRAME_META,
        **kwargs: Any,
    ) -> None:
        super().__init__(default_meta_keys=default_meta_keys, **kwargs)
        self.recompute_valid = recompute_valid
        self.reject_empty = reject_empty

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Pack the lists of the frames.

        Returns:
            ``inputs`` and ``data_samples``, or ``None`` for a rejected clip.
        """
        if self.recompute_valid and 'gt_valid' in results and 'gt_masks' in results:
            results['gt_valid'] = [
                valid & (np.asarray(masks.areas) > 0)
                for valid, masks in zip(results['gt_valid'], results['gt_masks'], strict=True)
            ]
        if self.reject_empty and not any(valid.any() for valid in results.get('gt_valid', ())):
            return None
        packed: dict[str, Any] = super().transform(results)
        facts = dict(results['clip_info'][0]) if 'clip_info' in results else {}
        for key in ('ori_shape', 'img_shape', 'scale_factor'):
            if key in results:
                facts[key] = results[key][0]
        packed['data_samples'].set_metainfo(facts)
        return packed
