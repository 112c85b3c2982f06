"""IDIP's mask head: dynamic convolution, four convolutions, twice the size, one map a class."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmdet.models.layers.transformer import DynamicConv
from mmengine.dist import get_world_size
from mmengine.model import BaseModule, bias_init_with_prob
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils.checkpoint import checkpoint

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.option_checks import require_one_of
from isda_suite.registry import MODELS

BATCHING = ('loop', 'grouped', 'joint')
# Instances that are computed at once where they do not see each other: their maps stay in the cache
# of a CPU, and in blocks that the C library uses again. A GPU has more to do at once.
CHUNK = 32
CHUNK_OF_GPU = 256


@MODELS.register_module()
class IDIPMaskHead(BaseModule):
    """Predict the masks of proposals from their region features and proposal features.

    Shapes: K instances, C channels, R side of the region features; masks are 2 R wide.

    In training the published code asks this head once for every image and every stage, so its
    BatchNorm sees the instances of one image and one stage at a time. Published weights are made
    for statistics of that kind.

    Args:
        num_classes: Classes without background.
        in_channels: C.
        dynamic_channels: Channels between the two dynamic matrices.
        num_convs: Number of convolutions.
        roi_size: R.
        with_dynamic: Whether the proposal features take part; False is the ablation.
        norm_cfg: Norm after a convolution: ``BN`` (published), ``SyncBN`` or ``GN``.
        norm_eval: Whether the statistics of BatchNorm are frozen in training.
        batching: What training computes at once: ``'loop'``, the instances of one image and one
            stage (published); ``'grouped'``, all instances, but statistics of BatchNorm as in the
            loop (equal to rounding, faster); ``'joint'``, all instances, statistics over all.
            Without statistics (GN, ``norm_eval``) the latter two are the same: some instances at a
            time, of any image and stage.
        with_cp: Whether training computes norms and ReLUs again in the backward pass, which is
            cheap, instead of keeping what the convolutions after them got: the same numbers, two
            thirds of the memory of this head.
        mask_prior: Probability that the bias of the mask logits starts from; ``None`` for the
            usual start of a convolution.

    Raises:
        ModelConfigError: for an unknown ``batching``, or SyncBN without ``'joint'``.

    Source: IDIP (doi 10.3233/FAIA230485); the same plan as QueryInst (arXiv:2105.01928).
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        dynamic_channels: int = 64,
        num_convs: int = 4,
        roi_size: int = 14,
        with_dynamic: bool = True,
        norm_cfg: dict[str, Any] | None = None,
        norm_eval: bool = False,
        batching: str = 'loop',
        mask_prior: float | None = 0.01,
        with_cp: bool = True,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        require_one_of('roi_head.mask_head.batching', batching, BATCHING)
        if (norm_cfg or {}).get('type') == 'SyncBN' and batching != 'joint':
            raise ModelConfigError(
                "roi_head.mask_head: SyncBN needs batching='joint', because processes that ask it "
                f'at different times wait for each other; got {batching!r}'
            )
        self.norm_eval = norm_eval
        self.batching = batching
        self.mask_prior = mask_prior
        self.with_cp = with_cp
        self.instance_conv = (
            DynamicConv(in_channels, dynamic_channels, input_feat_shape=roi_size, with_proj=False)
            if with_dynamic
            else None
        )
        self.convs = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Conv2d(in_channels, in_channels, 3, padding=1),
                    build_norm_layer(norm_cfg or dict(type='BN'), in_channels)[1],
                ]
            )
            for _ in range(num_convs)
        )
        self.upsample = nn.ConvTranspose2d(in_channels, in_channels, 2, stride=2, bias=False)
        self.logits = nn.Conv2d(in_channels, num_classes, 1)

    def init_weights(self) -> None:
        """Start from a low mask probability."""
        super().init_weights()
        if self.mask_prior is not None:
            # Compat: the prior of the focal loss, though the loss of masks is dice.
            nn.init.constant_(
                self.logits.get_parameter('bias'), bias_init_with_prob(self.mask_prior)
            )

    def train(self, mode: bool = True) -> 'IDIPMaskHead':
        """Set the mode; frozen statistics stay frozen."""
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(
        self,
        regions: Tensor,
        features: Tensor,
        labels: Tensor | None = None,
        groups: Sequence[int] | None = None,
    ) -> Tensor:
        """Predict mask logits.

        Args:
            regions: (K, C, R, R); K may be 0.
            features: (K, C) proposal features.
            labels: (K,) classes whose maps are wanted; ``None`` for those of all classes.
            groups: Sizes of the groups of instances that share statistics, sum K; ``None`` is one.

        Returns:
            (K, 2 R, 2 R) logits, or (K, classes, 2 R, 2 R) without ``labels``.
        """
        count = len(features)
        sizes = [count] if groups is None or self.batching == 'joint' else list(groups)
        if self.batching == 'loop' and groups is not None and count:
            parts = [[n] for n in sizes if n]
        elif not any(_takes_statistics(norm) for _, norm in self._blocks()):
            step = CHUNK if regions.device.type == 'cpu' else CHUNK_OF_GPU
            parts = [[min(step, count - at)] for at in range(0, max(count, 1), step)]
        else:
            parts = [sizes]
        rows = [sum(part) for part in parts]
        wanted = [None] * len(parts) if labels is None else torch.split(labels, rows)
        tensors = torch.split(regions, rows), torch.split(features, rows)
        found = [self._at_once(*part) for part in zip(*tensors, wanted, parts, strict=True)]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _blocks(self) -> list[tuple[nn.Conv2d, nn.Module]]:
        return [
            cast('tuple[nn.Conv2d, nn.Module]', tuple(block.children())) for block in self.convs
        ]

    def _at_once(
        self, regions: Tensor, features: Tensor, labels: Tensor | None, sizes: Sequence[int]
    ) -> Tensor:
        """Compute the maps of instances that share convolutions; groups of them, statistics."""
        blocks = self._blocks()
        if not torch.is_grad_enabled() and all(_can_fold(norm) for _, norm in blocks):
            x = self.mix(regions, features)
            for conv, norm in blocks:
                x = _convolve_folded(conv, cast(_BatchNorm, norm), x).relu_()
            return self._finish(self.upsample(x), labels)
        norms = [norm for _, norm in blocks]
        layers = [*(conv for conv, _ in blocks), self.upsample]
        x = layers[0](self.mix(regions, features))
        # Each part ends with a convolution, which is not computed again: recomputation stops when
        # it has the input of the last layer of a part.
        for norm, layer in zip(norms[:-1], layers[1:-1], strict=True):
            x = self._run(partial(_activate, norm, layer, sizes, first=[True]), x)
        # The maps of twice the size are the largest: their gradients are there for a group only.
        groups = [n for n in sizes if n] or [0]
        if not norms or len(groups) == 1:
            parts: Sequence[Tensor] = [x]
            wanted: Sequence[Tensor | None] = [labels]
        else:
            parts = torch.split(x, groups)
            wanted = [None] * len(groups) if labels is None else torch.split(labels, groups)
        found = []
        for part, chosen in zip(parts, wanted, strict=True):
            if norms:
                last = partial(_activate, norms[-1], self.upsample, [len(part)], first=[True])
                part = self._run(last, part)
            found.append(self._finish(part, chosen))
        return found[0] if len(found) == 1 else torch.cat(found)

    def _run(self, part: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Compute a part of the head, its insides again in the backward pass if that is wanted."""
        synced = any(isinstance(module, nn.SyncBatchNorm) for module in self.modules())
        if not (self.with_cp and self.training and torch.is_grad_enabled()) or synced:
            return part(x)
        result: Tensor = checkpoint(part, x, use_reentrant=False, preserve_rng_state=False)
        return result

    def _finish(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Compute the logits from maps of twice the size, before the ReLU of these."""
        x = x.relu_()
        if labels is None:
            logits: Tensor = self.logits(x)
            return logits
        # One map of each instance: the others are neither trained nor shown.
        weight = self.logits.get_parameter('weight').flatten(1)[labels]
        bias = self.logits.get_parameter('bias')[labels]
        return torch.einsum('kchw,kc->khw', x, weight.to(x.dtype)) + bias[:, None, None]

    def mix(self, regions: Tensor, features: Tensor) -> Tensor:
        """Apply the dynamic convolution of every instance to its region: (K, C, R, R)."""
        if self.instance_conv is None:
            return regions
        mixed = self.instance_conv(features, regions)
        return mixed.mT.reshape(regions.shape)


def _activate(
    norm: nn.Module,
    layer: Callable[..., Tensor],
    sizes: Sequence[int],
    x: Tensor,
    first: list[bool],
) -> Tensor:
    """Apply norm, ReLU and a layer; running statistics learn from the first time only."""
    update = bool(first)
    first.clear()
    return layer(normalise(norm, x, sizes, update).relu_())


def _takes_statistics(norm: nn.Module) -> bool:
    """Tell whether a norm lets the instances of a batch see each other."""
    return isinstance(norm, _BatchNorm) and (norm.training or norm.running_mean is None)


def _can_fold(norm: nn.Module) -> bool:
    return isinstance(norm, _BatchNorm) and not _takes_statistics(norm)


def _convolve_folded(conv: nn.Conv2d, norm: _BatchNorm, x: Tensor) -> Tensor:
    """Apply a convolution and a BatchNorm with frozen statistics as one convolution."""
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var),
        norm.eps, norm.weight, norm.bias,
    )  # fmt: skip
    return F.conv2d(x, weight, bias, conv.stride, cast('tuple[int, int]', conv.padding))


def normalise(norm: nn.Module, x: Tensor, sizes: Sequence[int], update: bool = True) -> Tensor:
    """Apply a norm layer, a BatchNorm that takes statistics one group after the other.

    Args:
        norm: The layer.
        x: (K, C, H, W).
        sizes: Sizes of the groups, sum K; empty ones leave the statistics as they are.
        update: Whether running statistics learn from it.

    Returns:
        (K, C, H, W).
    """
    if not isinstance(norm, _BatchNorm) or not norm.training:
        return norm(x)
    synced = isinstance(norm, nn.SyncBatchNorm)
    if len(x) == 0 and not (synced and get_world_size() > 1):
        # Nothing to take statistics of, but the parameters take part.
        return x * norm.weight[:, None, None] + norm.bias[:, None, None]
    run = norm if update else partial(_renormalise, norm)
    if synced or len(sizes) == 1:
        return run(x)
    return torch.cat([run(part) for part in torch.split(x, list(sizes)) if len(part)])


def _renormalise(norm: _BatchNorm, x: Tensor) -> Tensor:
    # Copies of the running statistics: the same tensors are kept for the gradient as at first.
    mean, var = (b if b is None else b.clone() for b in (norm.running_mean, norm.running_var))
    return F.batch_norm(x, mean, var, norm.weight, norm.bias, training=True, eps=norm.eps)
