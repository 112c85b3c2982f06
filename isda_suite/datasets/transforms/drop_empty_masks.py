"""Leave out instances that have no pixel left."""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from isda_suite.registry import TRANSFORMS

_PER_INSTANCE = ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags', 'gt_masks', 'gt_instances_ids')


@TRANSFORMS.register_module()
class DropEmptyMasks(BaseTransform):
    """Drop instances whose mask is empty, so that none reaches a loss.

    Crops cut masks away whose boxes stay, resizing loses thin ones, and polygons may miss every
    pixel centre. Ignored regions stay: they carry a box without a mask.

    Args:
        reject_empty: Whether a sample that loses its last instance is given back (``None``), so
            that the data set draws another one. A sample that had none before is kept.
    """

    def __init__(self, reject_empty: bool = True) -> None:
        self.reject_empty = reject_empty

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Filter everything that is counted by instance."""
        masks = results.get('gt_masks')
        if masks is None or not len(masks):
            return results
        keep = np.asarray(masks.areas) > 0
        ignored = results.get('gt_ignore_flags')
        target = keep if ignored is None else keep & ~ignored
        had_target = True if ignored is None else bool((~ignored).any())
        if ignored is not None:
            keep = keep | ignored
        if self.reject_empty and had_target and not target.any():
            return None
        if not keep.all():
            for key in _PER_INSTANCE:
                if results.get(key) is not None:
                    index = np.flatnonzero(keep) if key == 'gt_masks' else keep
                    results[key] = results[key][index]
        return results
