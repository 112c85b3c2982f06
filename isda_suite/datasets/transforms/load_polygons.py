"""Load masks as polygons without losing those that are runs of pixels."""

from typing import Any

from mmdet.datasets.transforms import LoadAnnotations

from isda_suite.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadPolygons(LoadAnnotations):
    """Load boxes, labels and masks; masks stay polygons where all of an image are polygons.

    Polygons are rasterised after they were resized, which is exact. With ``poly2mask=False`` mmdet
    ignores instances whose masks are runs of pixels (RLE); here all masks of an image with such an
    instance become bitmaps, which are resized by nearest neighbour.

    Args:
        **kwargs: Arguments of mmdet's ``LoadAnnotations`` but ``with_bbox``, ``with_mask`` and
            ``poly2mask``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(with_bbox=True, with_mask=True, poly2mask=False, **kwargs)

    def _load_masks(self, results: dict[str, Any]) -> None:
        self.poly2mask = any(
            isinstance(instance['mask'], dict) and not instance['ignore_flag']
            for instance in results.get('instances', [])
        )
        super()._load_masks(results)
