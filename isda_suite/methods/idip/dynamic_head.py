"""One stage of the head: proposal features look at each other and at the image, in time."""

import math

import torch
from mmdet.models.layers.transformer import DynamicConv
from torch import Tensor, nn

# Largest logarithm of the growth of a side in one stage.
MAX_LOG = math.log(62.5)
_BOX_WEIGHTS = (2.0, 2.0, 1.0, 1.0)


class DynamicHead(nn.Module):
    """Attention among the proposals of an image, dynamic convolution over their regions, FFN.

    Every part adds to the proposal features and is followed by a LayerNorm.

    Shapes: B images, N proposals, C channels, R side of the region features.

    Args:
        embed_dims: C.
        num_heads: Heads of the attention.
        feedforward_channels: Hidden channels of the FFN.
        dynamic_channels: Channels between the two dynamic matrices.
        roi_size: R.

    Source: IDIP (doi 10.3233/FAIA230485); dynamic convolution: Sparse R-CNN (arXiv:2011.12450).
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        feedforward_channels: int = 2048,
        dynamic_channels: int = 64,
        roi_size: int = 7,
    ) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(embed_dims, num_heads, batch_first=True)
        self.attention_norm = nn.LayerNorm(embed_dims)
        self.instance_conv = DynamicConv(embed_dims, dynamic_channels, input_feat_shape=roi_size)
        self.instance_norm = nn.LayerNorm(embed_dims)
        self.ffn = nn.Sequential(
            nn.Linear(embed_dims, feedforward_channels),
            nn.ReLU(inplace=True),
            nn.Linear(feedforward_channels, embed_dims),
        )
        self.ffn_norm = nn.LayerNorm(embed_dims)

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        """Update the proposal features.

        Args:
            features: (B, N, C).
            regions: (B·N, C, R, R) of the proposals' boxes.

        Returns:
            (B, N, C).
        """
        b, n, c = features.shape
        attended = self.attention(features, features, features, need_weights=False)[0]
        features = self.attention_norm(features + attended)
        seen = self.instance_conv(features.reshape(b * n, c), regions).view(b, n, c)
        features = self.instance_norm(features + seen)
        updated: Tensor = self.ffn_norm(features + self.ffn(features))
        return updated


class TimeEncoder(nn.Module):
    """Turn times into vectors.

    Args:
        embed_dims: Number of sines and cosines together; a vector has four times as many entries.
    """

    def __init__(self, embed_dims: int = 256) -> None:
        super().__init__()
        self.embed_dims = embed_dims
        channels = 4 * embed_dims
        # The names of the published code: the sines were its first entry.
        self.time_emb = nn.Sequential(
            nn.Identity(),
            nn.Linear(embed_dims, channels),
            nn.GELU(),
            nn.Linear(channels, channels),
        )

    def forward(self, times: Tensor) -> Tensor:
        """Encode times (B,) as (B, 4·embed_dims)."""
        encoded: Tensor = self.time_emb(sinusoids(times, self.embed_dims))
        return encoded


def sinusoids(times: Tensor, embed_dims: int) -> Tensor:
    r"""Compute :math:`\sin(t \cdot 10000^{-i/h})` for i = 0 … h - 1, then the cosines.

    Args:
        times: (B,) of any type.
        embed_dims: 2 h.

    Returns:
        (B, embed_dims) float32.
    """
    half = embed_dims // 2
    # Compat: divided by h; DiffusionDet divides by h - 1.
    exponents = torch.arange(half, dtype=torch.float32, device=times.device) / half
    angles = times.float()[:, None] * torch.exp(-math.log(10000) * exponents)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class BoxHead(nn.Module):
    """Predict classes and box changes from proposal features that are told the time.

    Shapes: B images, N proposals, C channels, K classes.

    Args:
        num_classes: K.
        embed_dims: C.
        num_reg_fcs: Hidden layers of the box branch.
    """

    def __init__(self, num_classes: int, embed_dims: int = 256, num_reg_fcs: int = 3) -> None:
        super().__init__()
        self.time_mlp = nn.Sequential(nn.SiLU(), nn.Linear(4 * embed_dims, 2 * embed_dims))
        self.cls_fcs = _hidden_layer(embed_dims)
        self.reg_fcs = nn.Sequential(*(_hidden_layer(embed_dims) for _ in range(num_reg_fcs)))
        self.fc_cls = nn.Linear(embed_dims, num_classes)
        self.fc_reg = nn.Linear(embed_dims, 4)

    def forward(self, features: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Predict.

        Args:
            features: (B, N, C).
            time: (B, 4·C) of a :class:`TimeEncoder`.

        Returns:
            Class logits (B, N, K) and box deltas (B, N, 4).
        """
        scale, shift = self.time_mlp(time)[:, None].chunk(2, dim=-1)
        told = features * (1 + scale) + shift
        return self.fc_cls(self.cls_fcs(told)), self.fc_reg(self.reg_fcs(told))


def decode_boxes(boxes: Tensor, deltas: Tensor) -> Tensor:
    r"""Apply box deltas.

    .. math:: c' = c + \frac{\delta_{xy}}{2} w, \quad w' = w \exp(\min(\delta_{wh}, \ln 62.5))

    In float32 also under automatic mixed precision. Shrinking has no limit, unlike in mmdet's
    coder, and the image clips nothing.

    Args:
        boxes: (..., 4) xyxy.
        deltas: (..., 4).

    Returns:
        (..., 4) xyxy; no side is negative.
    """
    boxes, deltas = boxes.float(), deltas.float()
    deltas = deltas / deltas.new_tensor(_BOX_WEIGHTS)
    sides = boxes[..., 2:] - boxes[..., :2]
    centres = boxes[..., :2] + 0.5 * sides
    centres = centres + deltas[..., :2] * sides
    half = 0.5 * sides * deltas[..., 2:].clamp(max=MAX_LOG).exp()
    return torch.cat([centres - half, centres + half], dim=-1)


def _hidden_layer(embed_dims: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(embed_dims, embed_dims, bias=False),
        nn.LayerNorm(embed_dims),
        nn.ReLU(inplace=True),
    )
