"""Resizing and cropping by the rules of DETR, for frames whose instances all stay.

Inside mmcv's ``TransformBroadcaster(share_random_params=True)`` every frame of a clip gets the
same, and ``RandomFlip`` and ``RandomChoiceResize`` of mmcv and mmdet do too.
"""

from typing import Any

import numpy as np
from mmdet.datasets.transforms import RandomCrop, Resize
from mmdet.structures.bbox import autocast_box_type

from isda_suite.registry import TRANSFORMS

Scale = int | tuple[int, int]


def short_side_size(size_hw: tuple[int, int], short: int, limit: int | None) -> tuple[int, int]:
    """Return the size of an image whose shorter side is resized to a length.

    Where the longer side would exceed the limit, the shorter one becomes
    ``round(limit * short / long)``; the longer one is rounded down.

    Args:
        size_hw: Size of the image.
        short: Length of the shorter side.
        limit: Most that the longer side may have; ``None`` for no limit.

    Returns:
        The new (h, w).

    Source: DETR, ``get_size_with_aspect_ratio``, as the video methods after it use it.
    """
    low, high = min(size_hw), max(size_hw)
    if limit is not None and high / low * short > limit:
        short = round(limit * low / high)
    long = int(short * high / low)
    height, width = size_hw
    return (long, short) if width < height else (short, long)


@TRANSFORMS.register_module()
class ResizeShortSide(Resize):
    """Resize so that the shorter side has a length and the longer one keeps a limit.

    mmdet's ``Resize`` with ``keep_ratio`` aims at the same but rounds to the nearest size, and
    resamples otherwise; this one rounds as DETR does (:func:`short_side_size`) and uses Pillow's
    bilinear filter.

    Args:
        scale: Length of the shorter side, or a pair of it and the limit of the longer side, in
            either order (``RandomChoiceResize`` with ``resize_type='isda_suite.ResizeShortSide'``
            draws one).
        backend: ``'pillow'`` or ``'cv2'``.
        **kwargs: Arguments of mmdet's ``Resize``.
    """

    def __init__(self, scale: Scale, backend: str = 'pillow', **kwargs: Any) -> None:
        super().__init__(scale=1, keep_ratio=False, backend=backend, **kwargs)
        self.scale = scale

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize image, boxes and masks; masks by nearest neighbour."""
        scale: Scale = self.scale
        short, limit = (scale, None) if isinstance(scale, int) else (min(scale), max(scale))
        height, width = short_side_size(results['img'].shape[:2], short, limit)
        results['scale'] = (width, height)
        self._resize_img(results)
        self._resize_bboxes(results)
        self._resize_masks(results)
        self._resize_seg(results)
        self._record_homography_matrix(results)
        return results


@TRANSFORMS.register_module()
class RandomCropKeepingAll(RandomCrop):
    """Cut out a random part of the image; instances outside stay, with what is left of them.

    mmdet's ``RandomCrop`` drops them, frame by frame, so that the frames of a clip would have
    different instances. ``isda_suite.PackClipInputs`` finds out which have a pixel left.

    Args:
        crop_size: As in mmdet's ``RandomCrop``; with ``'absolute_range'`` (least, most) of both
            sides, each drawn on its own and at most the side of the image.
        crop_type: As in mmdet's ``RandomCrop``.
    """

    def __init__(self, crop_size: tuple[float, float], crop_type: str = 'absolute_range') -> None:
        super().__init__(crop_size, crop_type, allow_negative_crop=True)

    def _crop_data(
        self, results: dict[str, Any], crop_size: tuple[int, int], allow_negative_crop: bool
    ) -> dict[str, Any]:
        height, width = crop_size
        whole = results['img'].shape[:2]
        y, x = self._rand_offset((max(whole[0] - height, 0), max(whole[1] - width, 0)))
        results['img'] = results['img'][y : y + height, x : x + width]
        results['img_shape'] = results['img'].shape[:2]
        if results.get('gt_bboxes') is not None:
            results['gt_bboxes'].translate_([-x, -y])
            results['gt_bboxes'].clip_(results['img_shape'])
        if results.get('gt_masks') is not None:
            corners = np.asarray([x, y, x + width, y + height])
            results['gt_masks'] = results['gt_masks'].crop(corners)
        return results
