"""Inria aerial image labelling: 180 labelled images of 5000 x 5000 pixels, buildings or not."""

from typing import Any, ClassVar

from isda_suite.registry import DATASETS

from .semantic import SemanticDataset


@DATASETS.register_module()
class InriaAerialDataset(SemanticDataset):
    """Read Inria aerial images with label images of ids 0 and 1, or with the 0/255 masks.

    ``NAME_sat.tif`` belongs to ``NAME_mask.png``. The official files are called ``NAME.tif`` both:
    ``img_suffix='.tif', seg_map_suffix='.tif', raw_masks=True``.

    Args:
        img_suffix: End of the names of images.
        seg_map_suffix: End of the names of label images.
        **kwargs: Arguments of :class:`SemanticDataset`; ``split`` takes FCtL's lists (126, 27,
            27), a random split over all five cities, not the contest's.

    Source: Maggiori et al., IGARSS 2017; split of FCtL (ICCV 2021).
    """

    METAINFO: ClassVar[dict[str, Any]] = {
        'classes': ('background', 'building'),
        'palette': [[0, 0, 0], [255, 255, 255]],
    }
    split_name = 'inria'

    def __init__(
        self, img_suffix: str = '_sat.tif', seg_map_suffix: str = '_mask.png', **kwargs: Any
    ) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
