"""The image-wide mask feature map that dynamic kernels are convolved with."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.models.dense_heads.solov2_head import MaskFeatModule
from mmdet.models.utils import generate_coordinate
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
        return mask_feature_map(self, x, self.with_coord)

    def init_weights(self) -> None:
        """Initialise all convolutions alike.

        ``conv_pred`` is a direct child and would re-initialise itself differently otherwise.
        """
        super().init_weights()
        normal_init(self.conv_pred.conv, std=0.01)


def mask_feature_map(
    branch: MaskFeatModule, x: Sequence[Tensor], with_coord: bool = True
) -> Tensor:
    """Do what mmdet's ``MaskFeatModule`` does, also for sizes that a compiler leaves open.

    Args:
        branch: The module.
        x: Maps (B, in_channels, H / 2^i, W / 2^i), finest first.
        with_coord: Whether the last level gets the coordinate channels.

    Returns:
        (B, out_channels, H, W).
    """
    inputs = list(x[branch.start_level : branch.end_level + 1])
    if with_coord and len(inputs) > 1:
        inputs[-1] = torch.cat([inputs[-1], coordinate_maps(inputs[-1])], 1)
    levels = [convs(feat) for convs, feat in zip(branch.convs_all_levels, inputs, strict=True)]
    # One after the other, as mmdet adds them: the order of a float sum is part of its value.
    found: Tensor = branch.conv_pred(functools.reduce(torch.add, levels))
    return found


def resize_outer_levels(x: Sequence[Tensor]) -> list[Tensor]:
    """Halve the first map and bring the last one to the size of the one before, as SOLO does.

    Equal to mmdet's ``resize_feats`` for a first map of even sides, whose size here is a number.

    Args:
        x: Maps (B, C, ·, ·), finest first.
    """
    half = [side // 2 for side in x[0].shape[-2:]]
    first = F.interpolate(x[0], size=half, mode='bilinear')
    return [first, *x[1:-1], F.interpolate(x[-1], size=x[-2].shape[-2:], mode='bilinear')]


def coordinate_maps(like: Tensor) -> Tensor:
    """Make the columns and rows of a map, from -1 to 1.

    ``torch.linspace``, which mmdet uses, takes no size that a compiler leaves open; what stands in
    for it in graphs is equal to rounding (3e-8).

    Args:
        like: (B, C, H, W).

    Returns:
        (B, 2, H, W) float32, x first.
    """
    if not torch.compiler.is_compiling():
        found: Tensor = generate_coordinate(like.shape, like.device)
        return found
    b, _, height, width = like.shape
    y, x = (_minus_one_to_one(size, like.device) for size in (height, width))
    shape = (b, 1, height, width)
    return torch.cat([x.expand(shape), y[:, None].expand(shape)], 1)


def _minus_one_to_one(size: int, device: torch.device) -> Tensor:
    places = torch.arange(size, device=device)
    step = 2 / torch.full((), size - 1, device=device).clamp(min=1).float()
    # From both ends to the middle, as linspace counts.
    first = places < torch.full((), size // 2, device=device).clamp(min=1)
    return torch.where(first, step * places - 1, 1 - step * (size - 1 - places))
