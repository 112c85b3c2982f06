"""DefVisTR with instance tokens as its papers describe it, in eager PyTorch.

The rival of ``benchmarks/defvistr.py``: what a careful reader would write who has no operators of
his own and does not ask what a step costs in memory. Deformable attention is the well-known sum of
``grid_sample`` over levels; slots are a batch for the decoder; all pairs of slot and frame are one
batch for the mask head, and the masks of all slots are computed. Nothing is slower than that: the
adapters of the mask head run once per frame, boxes and classes of all layers at once, and the
backbone and the losses are the ones the suite uses.

Modules carry the names of the published checkpoints, so that weights go either way by the name
table of ``isda_suite.methods.defvistr.convert``.

Axes: T frames, G slots, K tokens of a slot, C channels, M heads, (h, w) the map at stride 32,
S = T·h·w, (h4, w4) the map at stride 4. One clip at a time, unpadded.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

C, M, POINTS, TOKENS = 384, 8, 6, 20


def sine(positions: list[Tensor], channels: int) -> Tensor:
    """Encode normalised positions of the same shape (...), to (..., axes * channels)."""
    wave = 10000 ** (2 * torch.div(torch.arange(channels), 2, rounding_mode='floor') / channels)
    parts = []
    for position in positions:
        angle = position[..., None] / wave
        parts.append(torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), -1).flatten(-2))
    return torch.cat(parts, -1)


def grid_positions(*sizes: int) -> list[Tensor]:
    axes = [(torch.arange(n) + 1.0) / (n + 1e-6) * 2 * math.pi for n in sizes]
    return list(torch.meshgrid(*axes, indexing='ij'))


def deformable_attention(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Sample every level and sum up.

    Args:
        value: (1, S, M, D).
        shapes: (h, w) of the L levels.
        locations: (1, Q, M, L, P, 2) in 0..1.
        weights: (1, Q, M, L, P).
    """
    _, _, m, d = value.shape
    q = locations.shape[1]
    grids = 2 * locations - 1
    sampled = []
    levels = value.split([h * w for h, w in shapes], 1)
    for level, (maps, (h, w)) in enumerate(zip(levels, shapes, strict=True)):
        maps = maps[0].permute(1, 2, 0).reshape(m, d, h, w)
        grid = grids[0, :, :, level].transpose(0, 1)
        sampled.append(F.grid_sample(maps, grid, padding_mode='zeros', align_corners=False))
    weights = weights[0].transpose(0, 1).reshape(m, 1, q, -1)
    out = (torch.stack(sampled, -2).view(m, d, q, -1) * weights).sum(-1)
    return out.view(m * d, q).T[None]


class DeformableAttention(nn.Module):
    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.sampling_offsets = nn.Linear(C, M * levels * POINTS * 2)
        self.attention_weights = nn.Linear(C, M * levels * POINTS)
        self.value_proj = nn.Linear(C, C)
        self.output_proj = nn.Linear(C, C)

    def forward(
        self, query: Tensor, x: Tensor, points: Tensor, shapes: list[tuple[int, int]]
    ) -> Tensor:
        n = query.shape[1]
        value = self.value_proj(x).view(1, -1, M, C // M)
        offsets = self.sampling_offsets(query).view(1, n, M, self.levels, POINTS, 2)
        weights = self.attention_weights(query).view(1, n, M, -1).softmax(-1)
        weights = weights.view(1, n, M, self.levels, POINTS)
        sizes = torch.tensor([(w, h) for h, w in shapes]).view(1, 1, 1, -1, 1, 2)
        locations = points[None, :, None, None, None] + offsets / sizes
        return self.output_proj(deformable_attention(value, shapes, locations, weights))


class EncoderLayer(nn.Module):
    def __init__(self, levels: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(levels)
        self.linear1, self.linear2 = nn.Linear(C, 2048), nn.Linear(2048, C)
        self.norm1, self.norm2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, position: Tensor, points: Tensor, shapes: list[tuple[int, int]]
    ) -> Tensor:
        x = self.norm1(x + self.drop(self.self_attn(x + position, x, points, shapes)))
        return self.norm2(x + self.drop(self.linear2(self.drop(F.relu(self.linear1(x))))))


class DecoderLayer(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(C, M, dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(C, M, dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(C, 2048), nn.Linear(2048, C)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(C), nn.LayerNorm(C), nn.LayerNorm(C)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, query: Tensor, memory: Tensor, keys: Tensor) -> Tensor:
        """Decode slots (G, T, C), each with a memory (G, S + K, C) of its own."""
        q = x + query
        x = self.norm1(x + self.drop(self.self_attn(q, q, x, need_weights=False)[0]))
        seen = self.multihead_attn(x + query, keys, memory, need_weights=False)[0]
        x = self.norm2(x + self.drop(seen))
        return self.norm3(x + self.drop(self.linear2(self.drop(F.relu(self.linear1(x))))))


class Transformer(nn.Module):
    def __init__(self, frames: int, slots: int, dropout: float) -> None:
        super().__init__()
        self.slots = slots
        self.instance_encoders = nn.Embedding(slots * TOKENS, C)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(EncoderLayer(frames + 1, dropout) for _ in range(6))
        self.decoder = nn.Module()
        self.decoder.layers = nn.ModuleList(DecoderLayer(dropout) for _ in range(6))
        self.decoder.norm = nn.LayerNorm(C)

    def forward(self, x: Tensor, query: Tensor, recompute: bool) -> tuple[Tensor, Tensor]:
        """Map (T, C, h, w) to queries of all layers (6, G, T, C) and memory (T, C, h, w)."""

        def run(layer: nn.Module, *args: Any) -> Tensor:
            return checkpoint(layer, *args, use_reentrant=False) if recompute else layer(*args)

        t, _, h, w = x.shape
        tokens = x.permute(0, 2, 3, 1).reshape(1, -1, C)
        tokens = torch.cat((tokens, self.instance_encoders.weight[None]), 1)
        frames = sine(grid_positions(t, h, w), C // 3).reshape(1, -1, C)
        own = sine(grid_positions(self.slots, TOKENS), C // 2).reshape(1, -1, C)
        position = torch.cat((frames, own), 1)
        shapes = [(h, w)] * t + [(self.slots, TOKENS)]
        points = []
        for rows, columns in shapes:
            y, x_ = (torch.arange(n) + 0.5 for n in (rows, columns))
            y, x_ = torch.meshgrid(y / rows, x_ / columns, indexing='ij')
            points.append(torch.stack((x_, y), -1).flatten(0, 1))
        for layer in self.encoder.layers:
            tokens = run(layer, tokens, position, torch.cat(points), shapes)

        s, g = t * h * w, self.slots

        def of_slots(both: Tensor) -> Tensor:
            shared, own = both[:, :s], both[0, s:].view(g, TOKENS, C)
            return torch.cat((shared.expand(g, -1, -1), own), 1)

        memory, keys = of_slots(tokens), of_slots(tokens + position)
        output = torch.zeros_like(query).expand(g, -1, -1)
        layers = []
        for layer in self.decoder.layers:
            output = run(layer, output, query, memory, keys)
            layers.append(self.decoder.norm(output))
        return torch.stack(layers), tokens[0, :s].view(t, h, w, C).permute(0, 3, 1, 2)


class BoxLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(C, C), nn.Linear(C, C), nn.Linear(C, 4)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:2]:
            x = F.relu(layer(x))
        return self.layers[2](x).sigmoid()


class Detector(nn.Module):
    """Everything but the masks."""

    def __init__(self, frames: int, slots: int, dropout: float, num_logits: int) -> None:
        from mmdet.models import ResNet

        super().__init__()
        body = ResNet(
            50,
            frozen_stages=1,
            norm_cfg=dict(type='BN', requires_grad=False),
            norm_eval=True,
            style='pytorch',
        )
        self.backbone = nn.ModuleList([nn.Module()])
        self.backbone[0].body = body
        self.input_proj = nn.Conv2d(2048, C, 1)
        self.transformer = Transformer(frames, slots, dropout)
        self.class_embed = nn.Linear(C, num_logits)
        self.bbox_embed = BoxLayers()
        self.query_embed = nn.Embedding(frames, C)


class BoxAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_linear, self.k_linear = nn.Linear(C, C), nn.Linear(C, C)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Map queries (G, T, C) and memory (T, C, h, w) to (G, T, M, h, w)."""
        g, t, _ = queries.shape
        h, w = memory.shape[2:]
        q = self.q_linear(queries).view(g, t, M, C // M)
        k = F.conv2d(memory, self.k_linear.weight[..., None, None], self.k_linear.bias)
        logits = torch.einsum('gtmc,tmchw->gtmhw', q * (C // M) ** -0.5, k.view(t, M, -1, h, w))
        return logits.flatten(2).softmax(-1).view_as(logits)


class MaskHead(nn.Module):
    def __init__(self) -> None:
        from torchvision.ops import DeformConv2d

        super().__init__()
        self.lay1 = nn.Conv2d(C + M, C + M, 3, padding=1)
        self.lay2 = nn.Conv2d(C + M, C // 2, 3, padding=1)
        self.lay3 = nn.Conv2d(C // 2, C // 4, 3, padding=1)
        self.lay4 = nn.Conv2d(C // 4, C // 8, 3, padding=1)
        self.conv_offset = nn.Conv2d(C // 8, 18, 1)
        self.dcn = DeformConv2d(C // 8, C // 16, 3, padding=1, bias=False)
        widths = (C + M, C // 2, C // 4, C // 8, C // 16)
        self.gn1, self.gn2, self.gn3, self.gn4, self.gn5 = (nn.GroupNorm(8, w) for w in widths)
        self.adapter1 = nn.Conv2d(1024, C // 2, 1)
        self.adapter2 = nn.Conv2d(512, C // 4, 1)
        self.adapter3 = nn.Conv2d(256, C // 8, 1)

    def forward(self, memory: Tensor, maps: Tensor, feats: tuple[Tensor, ...]) -> Tensor:
        """Map (T, C, h, w), (G, T, M, h, w) and C2..C4 to (G, C / 16, T, h4, w4)."""
        g, t = maps.shape[:2]
        x = torch.cat((memory.expand(g, -1, -1, -1, -1), maps), 2).flatten(0, 1)
        x = F.relu(self.gn1(self.lay1(x)))
        x = F.relu(self.gn2(self.lay2(x)))
        x = F.relu(self.gn3(self.lay3(self.onto(self.adapter1(feats[2]), x))))
        x = F.relu(self.gn4(self.lay4(self.onto(self.adapter2(feats[1]), x))))
        x = self.onto(self.adapter3(feats[0]), x)
        x = F.relu(self.gn5(self.dcn(x, self.conv_offset(x))))
        return x.view(g, t, *x.shape[1:]).transpose(1, 2)

    @staticmethod
    def onto(lateral: Tensor, x: Tensor) -> Tensor:
        """Add what frames have, (T, c, h, w), to the upsampled (G * T, c, ·, ·)."""
        x = F.interpolate(x, size=lateral.shape[-2:], mode='nearest')
        return lateral.repeat(len(x) // len(lateral), 1, 1, 1) + x


class EagerDefVisTR(nn.Module):
    """The model, with the layout of queries the suite trains (query = frame, slot = instance).

    Args:
        frames: T.
        slots: G.
        dropout: Probability.
        num_logits: Classes and two.
        recompute: Whether layers of the transformer are computed again in the backward pass, as
            the published recipe does it.
    """

    def __init__(
        self,
        frames: int,
        slots: int = 8,
        dropout: float = 0.1,
        num_logits: int = 42,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.recompute = recompute
        self.vistr = Detector(frames, slots, dropout, num_logits)
        self.bbox_attention = BoxAttention()
        self.mask_head = MaskHead()
        layers: list[nn.Module] = []
        for channels in (C // 16, C // 32, C // 32):
            layers.append(nn.Conv3d(channels, C // 32, 3, padding=2, dilation=2))
            layers += [nn.GroupNorm(4, C // 32), nn.ReLU()]
        self.insmask_head = nn.Sequential(*layers, nn.Conv3d(C // 32, 1, 1))

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (T, 3, H, W) to logits and boxes (6, 1, G, T, ·) and masks (1, G, T, h4, w4)."""
        vistr = self.vistr
        feats = vistr.backbone[0].body(clip)
        hidden, memory = vistr.transformer(
            vistr.input_proj(feats[3]), vistr.query_embed.weight, self.recompute
        )
        maps = self.bbox_attention(hidden[-1], memory)
        masks = self.insmask_head(self.mask_head(memory, maps, feats[:3]))[:, 0]
        return vistr.class_embed(hidden)[:, None], vistr.bbox_embed(hidden)[:, None], masks[None]


def with_weights_of(model: Any, **options: Any) -> EagerDefVisTR:
    """Build the rival with the weights of an ``isda_suite.DefVisTR`` with instance tokens.

    Raises:
        KeyError: if a weight is missing.
        RuntimeError: if one has another shape.
    """
    from isda_suite.checkpoint.renaming import convert_state_dict, invert
    from isda_suite.methods.defvistr.convert import ORIGINAL

    rival = EagerDefVisTR(
        model.num_frames, model.num_instances, num_logits=model.num_classes + 2, **options
    )
    weights, _ = convert_state_dict(model.state_dict(), invert(ORIGINAL))
    own = rival.state_dict()
    skipped = [name for name in own if name.endswith('num_batches_tracked')]
    kept = {name: own[name] for name in skipped}
    rival.load_state_dict({name: weights[name] for name in own if name not in kept} | kept)
    return rival
