"""Features of regions of interest, also in graphs whose lengths cannot depend on the content."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def extract_rois(extractor: nn.Module, feats: Sequence[Tensor], rois: Tensor) -> Tensor:
    """Take the features of regions of a batch.

    In float32 also under automatic mixed precision: half precision has no place for the coordinates
    of a large image. Boxes that are not finite give the features of an empty box, so that it is the
    loss, not an operator, that stops a training that has diverged.

    Args:
        extractor: mmdet's ``SingleRoIExtractor``.
        feats: Maps of the pyramid (B, C, h, w), as many as the extractor has layers.
        rois: (P, 5), the image's number and the box as xyxy in pixels.

    Returns:
        (P, C, R, R).
    """
    rois = rois.nan_to_num(0, 0, 0)
    with torch.autocast(device_type=rois.device.type, enabled=False):
        if torch.compiler.is_compiling():
            return _from_every_level(extractor, feats, rois)
        regions: Tensor = extractor(feats, rois)
    return regions


def _from_every_level(extractor: Any, feats: Sequence[Tensor], rois: Tensor) -> Tensor:
    """Take all regions from every level and choose: no length depends on where boxes lie.

    The same numbers as mmdet's extractor, for graphs; it costs the regions of the other levels.
    """
    levels = extractor.map_roi_levels(rois, len(feats))[:, None, None, None]
    regions: Tensor | None = None
    for number, (layer, feat) in enumerate(zip(extractor.roi_layers, feats, strict=True)):
        found = torch.ops.torchvision.roi_align(
            feat,
            rois,
            layer.spatial_scale,
            *layer.output_size,
            layer.sampling_ratio,
            layer.aligned,
        )
        regions = found if regions is None else torch.where(levels == number, found, regions)
    if regions is None:
        raise RuntimeError('a pyramid without levels')
    return regions
