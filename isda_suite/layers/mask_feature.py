"""The image-wide mask feature map that dynamic kernels are convolved with."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmdet.models.dense_heads.solov2_head import MaskFeatModule
from mmengine.model import normal_init
from torch import Tensor

from isda_suite.registry import MODELS


@MODELS.register_module()
class MaskFeatureBranch(MaskFeatModule):
    """SOLOv2's mask feature branch, which mmdet has but does not register.

    Every level is brought to the finest one's size by 3x3 convolutions and x2 upsampling, the last
    one with two coordinate channels; the levels are summed and projected to ``out_channels``,
    normalised and rectified, so the map is never negative.

    Args:
        with_coord: Whether the last level gets the coordinate channels; SOTR goes without.
        **kwargs: As mmdet's ``MaskFeatModule``: ``in_channels``, ``feat_channels``,
            ``start_level``, ``end_level``, ``out_channels``, ``norm_cfg``.

    Source: SOLOv2 (arXiv:2003.10152), section 3.2; ISDA (arXiv:2202.12251).
    """

    def __init__(self, with_coord: bool = True, **kwargs: Any) -> None:
        self.with_coord = with_coord
        super().__init__(**kwargs)

    def _init_layers(self) -> None:
        super()._init_layers()
        if self.with_coord or self.end_level == 0:
            return
        # mmdet has no switch: its first convolution of the last level is replaced.
        self.convs_all_levels[-1].conv0 = ConvModule(
            self.in_channels,
            self.feat_channels,
            3,
            padding=1,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            inplace=False,
        )

    def forward(self, x: Sequence[Tensor]) -> Tensor:
        """Compute the mask feature map.

        Args:
            x: Maps (B, in_channels, H / 2^i, W / 2^i), finest first; those from ``start_level`` to
                ``end_level`` are read.

        Returns:
            (B, out_channels, H, W), at least 0.
        """
        if self.with_coord:
            return super().forward(x)
        inputs = x[self.start_level : self.end_level + 1]
        levels = [convs(feat) for convs, feat in zip(self.convs_all_levels, inputs, strict=True)]
        # One after the other, as mmdet adds them: the order of a float sum is part of its value.
        return self.conv_pred(functools.reduce(torch.add, levels))

    def init_weights(self) -> None:
        """Initialise all convolutions alike.

        ``conv_pred`` is a direct child and would re-initialise itself differently otherwise.
        """
        super().init_weights()
        normal_init(self.conv_pred.conv, std=0.01)
