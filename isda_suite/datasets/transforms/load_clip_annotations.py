"""Load the annotations of a frame of a clip."""

from typing import Any

import numpy as np
from mmdet.datasets.transforms import LoadTrackAnnotations

from isda_suite.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadClipAnnotations(LoadTrackAnnotations):
    """Load boxes, masks, labels and ids as mmdet does, and which instances are in the frame.

    Args:
        with_mask: Whether to load masks.
        **kwargs: Arguments of mmdet's ``LoadTrackAnnotations``.
    """

    def __init__(self, with_mask: bool = True, **kwargs: Any) -> None:
        super().__init__(with_mask=with_mask, **kwargs)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add what mmdet's transform adds, and ``gt_valid``: (G,) bool."""
        loaded: dict[str, Any] = super().transform(results)
        valid = [bool(one.get('valid', True)) for one in loaded['instances']]
        loaded['gt_valid'] = np.array(valid, dtype=bool)
        return loaded
