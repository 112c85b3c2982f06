"""The image-wide mask feature map that dynamic kernels are convolved with."""

from typing import Any

from mmdet.models.dense_heads.solov2_head import MaskFeatModule
from mmengine.model import normal_init

from isda_suite.registry import MODELS


@MODELS.register_module()
class MaskFeatureBranch(MaskFeatModule):
    """SOLOv2's mask feature branch, which mmdet has but does not register.

    Every level is brought to the finest one's size by 3x3 convolutions and x2 upsampling, the last
    one with two coordinate channels; the levels are summed and projected to ``out_channels``,
    normalised and rectified, so the map is never negative.

    Args:
        **kwargs: As mmdet's ``MaskFeatModule``: ``in_channels``, ``feat_channels``,
            ``start_level``, ``end_level``, ``out_channels``, ``norm_cfg``.

    Source: SOLOv2 (arXiv:2003.10152), section 3.2; ISDA (arXiv:2202.12251).
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def init_weights(self) -> None:
        """Initialise all convolutions alike.

        ``conv_pred`` is a direct child and would re-initialise itself differently otherwise.
        """
        super().init_weights()
        normal_init(self.conv_pred.conv, std=0.01)
