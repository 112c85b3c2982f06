"""DeepGlobe 2018 land cover: 803 labelled satellite images of 2448 x 2448 pixels."""

from typing import Any, ClassVar

from isda_suite.registry import DATASETS

from .semantic import SemanticDataset


@DATASETS.register_module()
class DeepGlobeDataset(SemanticDataset):
    """Read DeepGlobe land cover with label images of ids 0 to 6, or with its RGB masks.

    ``ID_sat.jpg`` belongs to ``ID_mask.png``. In the RGB masks (``raw_masks=True``) any colour
    that is not exactly one of the palette becomes 0, counted and warned about.

    Args:
        img_suffix: End of the names of images.
        seg_map_suffix: End of the names of label images.
        **kwargs: Arguments of :class:`SemanticDataset`; ``split`` takes GLNet's lists (454, 207,
            142), which name images of the official training set.

    Source: Demir et al., DeepGlobe 2018 (arXiv:1805.06561); split of GLNet (arXiv:1905.06368).
    """

    METAINFO: ClassVar[dict[str, Any]] = {
        'classes': ('unknown', 'urban', 'agriculture', 'rangeland', 'forest', 'water', 'barren'),
        'palette': [
            [0, 0, 0],
            [0, 255, 255],
            [255, 255, 0],
            [255, 0, 255],
            [0, 255, 0],
            [0, 0, 255],
            [255, 255, 255],
        ],
    }
    split_name = 'deepglobe'
    unknown_id = 0

    def __init__(
        self, img_suffix: str = '_sat.jpg', seg_map_suffix: str = '_mask.png', **kwargs: Any
    ) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
