"""Targets, matching and loss terms of one decoder layer of ISDA."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from torch import Tensor

from isda_suite.layers.dynamic_masks import decode_mask_logits
from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.option_checks import require_one_of
from isda_suite.matchers.ignored_regions import ignored_region, lies_in_region

TARGET_DOWN = ('bilinear', 'area')


@dataclass
class Match:
    """The one-to-one matching of one image.

    Attributes:
        query_inds: (K,) int64, matched queries, ascending.
        gt_inds: (K,) int64, the target of each; K = min(queries, targets).
    """

    query_inds: Tensor
    gt_inds: Tensor


def downsample_masks(
    masks: NDArray[np.uint8] | Tensor, size_hw: tuple[int, int], mode: str
) -> Tensor:
    """Reduce binary masks to the stride-4 map of the batch.

    ``'bilinear'`` is interpolation by 1/4 without anti-aliasing, which is exactly the mean of the
    centre 2x2 pixels of every 4x4 cell; an object without such a pixel vanishes. ``'area'`` is the
    mean of the whole cell.

    Args:
        masks: (G, h, w) binary masks at (any) padded input size, array or tensor.
        size_hw: Size of the mask map, a quarter of the padded batch.
        mode: ``'bilinear'`` or ``'area'``.

    Returns:
        (G, H, W) float32 in {0, 1/4, ..., 1} (sixteenths for ``'area'``), zero-padded at the right
        and bottom.

    Raises:
        ModelConfigError: if the masks are larger than the batch or the mode is unknown.
    """
    require_one_of('target_down', mode, TARGET_DOWN)
    masks = torch.as_tensor(masks)
    h, w = masks.shape[1:]
    cells = (-(-h // 4), -(-w // 4))
    if cells[0] > size_hw[0] or cells[1] > size_hw[1]:
        raise ModelConfigError(
            f'gt masks: expected at most {4 * size_hw[0]} x {4 * size_hw[1]} pixels (the padded '
            f'batch), got {h} x {w}; set pad_mask=True in the data_preprocessor'
        )
    masks = F.pad(masks, (0, 4 * cells[1] - w, 0, 4 * cells[0] - h))
    first, last = (1, 3) if mode == 'bilinear' else (0, 4)
    cell = masks.reshape(-1, cells[0], 4, cells[1], 4)[:, :, first:last, :, first:last]
    mean = cell.sum(dim=(2, 4), dtype=torch.float32) / (last - first) ** 2
    return F.pad(mean, (0, size_hw[1] - cells[1], 0, size_hw[0] - cells[0]))


@torch.no_grad()
def match_image(
    assigner: object, cls_logits: Tensor, kernels: Tensor, mask_feature: Tensor, gt: InstanceData
) -> Match:
    """Match the queries of one image and one decoder layer to its targets.

    Args:
        assigner: mmdet's ``HungarianAssigner``.
        cls_logits: (Q, classes).
        kernels: (Q, C).
        mask_feature: (C, H, W).
        gt: ``labels`` (G,) and ``masks`` (G, H, W), the down-sampled targets.

    Returns:
        The matching; empty without targets.
    """
    if len(gt) == 0:
        none = cls_logits.new_zeros(0, dtype=torch.long)
        return Match(none, none)
    masks = decode_mask_logits(kernels, mask_feature).sigmoid_()
    pred = InstanceData(scores=cls_logits.to(masks.dtype), masks=masks)
    gt_inds = assigner.assign(pred, gt).gt_inds  # type: ignore[attr-defined]
    query_inds = gt_inds.nonzero().squeeze(1)
    return Match(query_inds, gt_inds[query_inds] - 1)


def matched_masks(
    all_kernels: Tensor, mask_feature: Tensor, matches: list[list[Match]]
) -> list[Tensor]:
    """Decode the masks of the matched queries.

    Only those: unmatched masks have weight 0 in the loss, so values and gradients are the same and
    the memory of (Q, H, W) maps kept for backward is saved. The layers of an image are decoded
    together, which writes the gradient of its large feature map once instead of once a layer.

    Args:
        all_kernels: (N, B, Q, C).
        mask_feature: (B, C, H, W).
        matches: For each of the N layers the matches of its B images.

    Returns:
        N tensors (M, H, W) float32 of probabilities, image after image; M of a layer may be 0,
        and is still connected to both inputs.
    """
    decoded: list[list[Tensor]] = [[] for _ in matches]
    # Unbound, not indexed: the gradient of an index is a whole tensor of zeros each time.
    per_image = zip(*(kernels.unbind() for kernels in all_kernels.unbind()), strict=True)
    for i, (feature, layers) in enumerate(zip(mask_feature.unbind(), per_image, strict=True)):
        kernels = [
            layer[image_matches[i].query_inds]
            for layer, image_matches in zip(layers, matches, strict=True)
        ]
        masks = decode_mask_logits(torch.cat(kernels), feature).sigmoid()
        sizes = [len(matched) for matched in kernels]
        for parts, part in zip(decoded, torch.split(masks, sizes), strict=True):
            parts.append(part)
    return [torch.cat(parts) for parts in decoded]


@torch.no_grad()
def query_weights(
    all_kernels: Tensor,
    mask_feature: Tensor,
    matches: list[list[Match]],
    ignored: Sequence[InstanceData | None],
    iof_thr: float | None,
) -> list[Tensor] | list[None]:
    """Weigh the queries of the classification loss: 0 for unmatched ones in ignored regions.

    Args:
        all_kernels: (N, B, Q, C).
        mask_feature: (B, C, H, W).
        matches: For each of the N layers the matches of its B images.
        ignored: B instances with ``masks`` and ``bboxes``, or ``None`` for an image.
        iof_thr: Share of a mask that has to lie inside; ``None`` weighs all alike.

    Returns:
        For each layer (B, Q) float32, or ``None`` for equal weights.
    """
    if iof_thr is None or not any(one is not None and len(one) for one in ignored):
        return [None] * len(matches)
    size_hw = (mask_feature.shape[-2], mask_feature.shape[-1])
    weights = all_kernels.new_ones(all_kernels.shape[:3], dtype=torch.float32)
    for i, instances in enumerate(ignored):
        region = ignored_region(instances, (4 * size_hw[0], 4 * size_hw[1]))
        if region is None:
            continue
        small = downsample_masks(region[None].to(mask_feature.device), size_hw, 'area')[0]
        for layer, kernels in enumerate(all_kernels[:, i]):
            masks = decode_mask_logits(kernels, mask_feature[i]).sigmoid_()
            weights[layer, i, lies_in_region(masks, small, iof_thr)] = 0
            weights[layer, i, matches[layer][i].query_inds] = 1
    return list(weights)
