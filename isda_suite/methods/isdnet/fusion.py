"""Relation-aware fusion of a spatial and a context feature."""

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from isda_suite.layers.errors import ModelConfigError


class ChannelAttention(nn.Module):
    """Project a feature and describe each of its channels by one number.

    Args:
        in_channels: Channels of the feature.
        channels: C, channels of the projection.
        norm_cfg: Normalisation.
    """

    def __init__(self, in_channels: int, channels: int, norm_cfg: dict[str, Any]) -> None:
        super().__init__()
        self.project = ConvModule(in_channels, channels, 3, padding=1, norm_cfg=norm_cfg)
        self.pooled = ConvModule(channels, channels, 1, norm_cfg=norm_cfg, act_cfg=None)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Project (B, in, h, w) to (B, C, h, w), and give its mean, (B, C, 1, 1)."""
        projected = self.project(feature)
        return projected, projected.mean((2, 3), keepdim=True)

    def describe(self, mean: Tensor) -> Tensor:
        """Turn the mean of the projection into one number a channel, (B, C, 1, 1)."""
        return self.pooled(mean)


class RelationAwareFusion(nn.Module):
    r"""Weigh the channels of two features by how their groups relate, and add them.

    .. math::
        A &= R(a_s) R(a_c)^T \\
        w_s &= \sigma(a_s + g_1 \mathrm{MLP}_1(\mathrm{vec} A)), \quad
        w_c = \sigma(a_c + g_2 \mathrm{MLP}_2(\mathrm{vec} A)) \\
        F &= \mathrm{conv}(S w_s + \mathrm{conv}(\mathrm{up}(D w_c)))

    S and D are the projected spatial and context feature, a_s and a_c the numbers that describe
    their channels, R arranges C channels as R groups of C / R.

    Args:
        spatial_channels: Channels of the spatial feature.
        context_channels: Channels of the context feature.
        channels: C of both after projection.
        num_groups: R; the published network has C = 128 and R = 16.
        norm_cfg: Normalisation.

    Raises:
        ModelConfigError: if C is no multiple of R.

    Source: ISDNet (CVPR 2022), section 3, relational-aware feature fusion.
    """

    def __init__(
        self,
        spatial_channels: int,
        context_channels: int,
        channels: int = 128,
        num_groups: int = 16,
        norm_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if channels % num_groups:
            raise ModelConfigError(
                f'refine_head: channels={channels} cannot be split into num_groups={num_groups} '
                'groups of equal size'
            )
        norm_cfg = norm_cfg or dict(type='BN')
        self.num_groups = num_groups
        self.spatial_attention = ChannelAttention(spatial_channels, channels, norm_cfg)
        self.context_attention = ChannelAttention(context_channels, channels, norm_cfg)
        self.spatial_mlp = _mlp(num_groups**2, channels)
        self.context_mlp = _mlp(num_groups**2, channels)
        self.spatial_gain = nn.Parameter(torch.zeros(1))
        self.context_gain = nn.Parameter(torch.zeros(1))
        self.context_head = ConvModule(channels, channels, 3, padding=1, norm_cfg=norm_cfg)
        self.smooth = ConvModule(channels, channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=None)

    def forward(self, spatial: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fuse two features.

        Args:
            spatial: (B, spatial_channels, h, w).
            context: (B, context_channels, h', w'), of any size.

        Returns:
            Weighed spatial feature S', context feature C' and their fusion F, (B, C, h, w) each.
        """
        spatial, spatial_mean = self.spatial_attention(spatial)
        context, context_mean = self.context_attention(context)
        spatial_weights, context_weights = self.channel_weights(spatial_mean, context_mean)
        spatial, context = spatial * spatial_weights, context * context_weights
        return self.merge(spatial, F.interpolate(context, size=spatial.shape[-2:], mode='bilinear'))

    def channel_weights(self, spatial: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Weigh channels by the means of both projections, (B, C, 1, 1) each."""
        spatial = self.spatial_attention.describe(spatial)
        context = self.context_attention.describe(context)
        relation = self._relation(spatial, context)
        spatial_logits = self.spatial_gain * self.spatial_mlp(relation)
        context_logits = self.context_gain * self.context_mlp(relation)
        return (
            (spatial + spatial_logits[..., None, None]).sigmoid(),
            (context + context_logits[..., None, None]).sigmoid(),
        )

    def merge(self, spatial: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Add weighed features of one size; see :meth:`forward`."""
        context = self.context_head(context)
        return spatial, context, self.smooth(spatial + context)

    def _relation(self, spatial: Tensor, context: Tensor) -> Tensor:
        """Compare the groups of (B, C, 1, 1) each: (B, R * R), a row is a spatial group."""
        b = len(spatial)
        groups = [numbers.view(b, self.num_groups, -1) for numbers in (spatial, context)]
        return (groups[0] @ groups[1].mT).flatten(1)


def _mlp(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_channels, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU()
    )
