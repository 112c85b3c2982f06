"""Change colours without leaving the range of the image."""

from typing import Any

import numpy as np
from mmdet.datasets.transforms import PhotoMetricDistortion as MmdetPhotoMetricDistortion

from isda_suite.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PhotoMetricDistortion(MmdetPhotoMetricDistortion):
    """Distort brightness, contrast, saturation and hue as mmdet does; give 8 bits again.

    mmdet's transform gives floats beyond 0..255, which Pillow cannot resize; the original of
    DefVisTR casts them, so that bright pixels wrap to black. Here they are cut off.

    In a ``TransformBroadcaster`` of its own every frame is distorted on its own, as the original
    does; with ``share_random_params=True`` all frames of a clip are distorted alike.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Distort ``img``."""
        distorted: dict[str, Any] = super().transform(results)
        distorted['img'] = np.clip(distorted['img'], 0, 255).astype(np.uint8)
        return distorted
