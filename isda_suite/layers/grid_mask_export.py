"""SOLOv2 and its relatives for export: cells of grids with kernels, and matrix NMS."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import SOLOV2Head
from torch import Tensor

from .dynamic_masks import decode_mask_logits
from .errors import ModelConfigError
from .export_form import EXPORT_FORMS, InstanceForm
from .mask_feature import coordinate_maps, mask_feature_map, resize_outer_levels
from .open_pyramid import OpenPyramid

KERNELS = ('gaussian', 'linear')


@EXPORT_FORMS.register_module()
class GridMaskExport(InstanceForm):
    """Images to scores, labels and mask probabilities at a quarter, by mmdet's rules for SOLOv2.

    Shapes are fixed, so matrix NMS looks at the ``nms_pre`` pairs of cell and class with the best
    class scores; the model itself takes the best ``nms_pre`` by class score times mask quality.
    Both are the same where no more than ``nms_pre`` pairs are above ``score_thr``. Places without
    a detection have the score 0.

    Args:
        model: A SOLOv2, or a SOTR.
        batch_size: B.

    Raises:
        ModelConfigError: for kernels of more than a pixel, or another suppression.
    """

    detectors: ClassVar[tuple[str, ...]] = ('SOLOv2',)
    results: ClassVar[str] = 'image_masks'
    outputs: ClassVar[tuple[str, ...]] = ('scores', 'labels', 'masks')
    # The coarsest level, of stride 64, keeps more than one cell.
    least_side: ClassVar[int] = 96

    def __init__(self, model: Any, batch_size: int = 1) -> None:
        super().__init__(model, batch_size)
        head = model.mask_head
        if head.dynamic_conv_size != 1:
            raise ModelConfigError(
                f'mask_head.dynamic_conv_size: only kernels of one pixel can be exported, got '
                f'{head.dynamic_conv_size}'
            )
        self.options: dict[str, Any] = dict(
            score_thr=0.1, mask_thr=0.5, nms_pre=500, kernel='gaussian', sigma=2.0
        )
        self.options.update(filter_thr=0.05, max_per_img=100)
        self.options.update(head.test_cfg or {})
        if self.options['kernel'] not in KERNELS:
            raise ModelConfigError(
                f'test_cfg.kernel: {" or ".join(KERNELS)} can be exported, got '
                f'{self.options["kernel"]!r}'
            )
        self.neck = OpenPyramid(model.neck)
        self.mask_stride = int(head.mask_feature_head.mask_stride)
        self.least_areas = tuple(
            float(stride)
            for grid, stride in zip(head.num_grids, head.strides, strict=True)
            for _ in range(grid * grid)
        )

    def outputs_of(self, images: Tensor, sizes: Tensor) -> Iterable[tuple[Tensor, ...]]:
        """Give scores (classes, cells), kernels (cells, C) and the mask feature (C, h, w)."""
        feats = self.neck(self.model.backbone(self.image_input(images, sizes)))
        head = self.model.mask_head
        # A head that has methods of its own, as SOTR's, is asked; mmdet's has open sizes here.
        outputs = solov2_outputs(head, feats) if _is_mmdets(head) else head(feats)
        kernels, logits, mask_feature = outputs
        scores = torch.cat([_peaks(level.float().sigmoid()).flatten(2) for level in logits], 2)
        queries = torch.cat([level.flatten(2) for level in kernels], 2).mT
        return zip(scores, queries, mask_feature, strict=True)

    def decode(
        self, cell_scores: Tensor, queries: Tensor, mask_feature: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose the best cells, after matrix NMS; masks are probabilities."""
        options = self.options
        cells = cell_scores.shape[1]
        scores, places = cell_scores.flatten().topk(min(options['nms_pre'], cell_scores.numel()))
        labels, cell = places // cells, places % cells
        probs = decode_mask_logits(queries[cell], mask_feature).sigmoid()
        inside = probs > options['mask_thr']
        areas = inside.sum((1, 2)).float()
        least = torch.tensor(self.least_areas, device=areas.device)[cell]
        valid = (scores > options['score_thr']) & (areas > least)
        quality = (probs * inside).sum((1, 2)) / areas.clamp(min=1)
        scores = torch.where(valid, scores * quality, 0)
        scores, order = scores.topk(len(scores))
        decay = matrix_decay(
            inside[order].flatten(1).float(), labels[order], options['kernel'], options['sigma']
        )
        scores = scores * decay
        if options['filter_thr'] > 0:
            scores = torch.where(scores >= options['filter_thr'], scores, 0)
        count = len(scores) if options['max_per_img'] < 1 else options['max_per_img']
        scores, best = scores.topk(min(count, len(scores)))
        order = order[best]
        return scores, labels[order], probs[order]

    def describe(self) -> dict[str, Any]:
        """Return the thresholds; a score of 0 is no detection."""
        return {
            'mask_thr': self.options['mask_thr'],
            'score_thr': 1e-9,
            'mask_stride': self.mask_stride,
        }


def solov2_outputs(head: Any, feats: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Do what mmdet's ``SOLOV2Head.forward`` does, also for sizes that a compiler leaves open.

    Args:
        head: The head.
        feats: Maps of the neck, strides 4 to 64, of even sides.

    Returns:
        For each level kernels (B, C, S, S) and class logits (B, classes, S, S); the mask feature.
    """
    mask_feature = mask_feature_map(head.mask_feature_head, feats)
    kernels, logits = [], []
    for feat, grid in zip(resize_outer_levels(feats), head.num_grids, strict=True):
        cells = torch.cat([feat, coordinate_maps(feat)], 1)
        cells = F.interpolate(cells, size=(grid, grid), mode='bilinear', align_corners=False)
        kernel, logit = cells, cells[:, :-2]
        for kernel_conv, cls_conv in zip(head.kernel_convs, head.cls_convs, strict=True):
            kernel, logit = kernel_conv(kernel), cls_conv(logit)
        kernels.append(head.conv_kernel(kernel))
        logits.append(head.conv_cls(logit))
    return kernels, logits, mask_feature


def matrix_decay(masks: Tensor, labels: Tensor, kernel: str, sigma: float) -> Tensor:
    """Compute the factors of matrix NMS.

    Unlike mmdet's function it bears empty masks, which are what fills places without a detection.

    Args:
        masks: (N, pixels) of 0 and 1, best score first.
        labels: (N,).
        kernel: ``'gaussian'`` or ``'linear'``.
        sigma: Of the gaussian.

    Returns:
        (N,) in [0, 1].

    Source: SOLOv2 (arXiv:2003.10152), section 3.3.
    """
    both, area = masks @ masks.mT, masks.sum(1)
    rank = torch.arange(len(masks), device=masks.device)
    rivals = (labels[:, None] == labels) & (rank[:, None] < rank)
    overlap = torch.where(rivals, both / (area[:, None] + area - both).clamp(min=1), 0)
    own = overlap.amax(0)[:, None]
    if kernel == 'linear':
        return ((1 - overlap) / (1 - own)).amin(0)
    return (torch.exp(-sigma * overlap**2) / torch.exp(-sigma * own**2)).amin(0)


def _is_mmdets(head: Any) -> bool:
    return type(head).forward is SOLOV2Head.forward


def _peaks(scores: Tensor) -> Tensor:
    """Keep scores (B, classes, S, S) that no upper, left or upper-left neighbour exceeds."""
    highest = F.max_pool2d(scores, 2, stride=1, padding=1)[..., :-1, :-1]
    return scores * (highest == scores)
