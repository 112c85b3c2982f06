"""SOTR's prediction head: classes and dynamic kernels of grid cells, from one transformer."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import SOLOV2Head
from mmdet.structures.mask import BitmapMasks
from mmengine import ConfigDict
from mmengine.model import bias_init_with_prob
from mmengine.structures import InstanceData
from torch import Tensor, nn

from isda_suite.layers.dynamic_masks import decode_mask_logits
from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.mask_feature import MaskFeatureBranch, resize_outer_levels
from isda_suite.layers.option_checks import require_one_of
from isda_suite.registry import MODELS

from .postprocess import detect
from .transformer import TwinTransformer

MASK_AVG = ('targets', 'cells')


@MODELS.register_module()
class SOTRHead(SOLOV2Head):
    """Predict a class and a 1x1 kernel in every cell of a grid per level.

    Shapes: B images, C channels of maps and kernels, S cells along a side of a level's grid,
    (H, W) = input / 4.

    SOLOv2's head with its two towers replaced: every level, brought to S x S cells, and the
    coarsest mask input go through the same transformer. The queries are the kernels of the cells,
    the first output of :meth:`forward`; their product with the mask feature is the mask. Targets
    are mmdet's.

    Args:
        num_classes: Classes without background.
        in_channels: C, channels of the neck's maps.
        transformer: Config of :class:`TwinTransformer`, without ``embed_dims``.
        mask_feature_head: Config of :class:`isda_suite.layers.MaskFeatureBranch`, without
            ``in_channels``; ``with_coord`` is False unless it is set.
        mask_avg: What the mask loss is a mean over: ``'targets'`` (published), in which a cell
            counts as often as it has objects, or ``'cells'`` (mmdet's SOLOv2): divided by the
            number of distinct positive cells.
        **kwargs: As :class:`mmdet.models.SOLOV2Head`; what concerns its towers has no effect.

    Raises:
        ModelConfigError: for an unknown ``mask_avg``, or kernels that do not fit.

    Source: SOTR (arXiv:2108.06747), section 3.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *,
        mask_feature_head: dict[str, Any],
        transformer: dict[str, Any] | None = None,
        mask_avg: str = 'targets',
        **kwargs: Any,
    ) -> None:
        require_one_of('mask_head.mask_avg', mask_avg, MASK_AVG)
        if kwargs.get('dynamic_conv_size', 1) != 1:
            raise ModelConfigError('mask_head.dynamic_conv_size: SOTR has kernels of one pixel')
        self.mask_avg = mask_avg
        self.transformer_cfg = dict(transformer or {})
        branch = copy.deepcopy(dict(mask_feature_head))
        branch['in_channels'] = in_channels
        with_coord = branch.pop('with_coord', False)
        super().__init__(
            num_classes,
            in_channels,
            feat_channels=in_channels,
            mask_feature_head=ConfigDict(branch),
            init_cfg=None,
            **kwargs,
        )
        # mmdet builds its own branch, which always has coordinates.
        self.mask_feature_head = MaskFeatureBranch(with_coord=with_coord, **branch)

    def _init_layers(self) -> None:
        self.transformer = TwinTransformer(embed_dims=self.in_channels, **self.transformer_cfg)
        self.cls_branch = nn.Linear(self.in_channels, self.cls_out_channels)
        self.kernel_branch = nn.Linear(self.in_channels, self.kernel_out_channels)

    def init_weights(self) -> None:
        """Initialise the mask branch and the class bias; the rest keeps PyTorch's defaults."""
        super().init_weights()
        nn.init.constant_(self.cls_branch.bias, bias_init_with_prob(0.01))

    def mask_feature(self, feats: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the mask feature from P2, P3, P4 and the transformed P5.

        Args:
            feats: Maps of the neck, strides 4 to 64.

        Returns:
            The mask feature (B, C, H, W), at least 0, and the transformed P5.
        """
        last = self.mask_feature_head.end_level
        transformed = self.transformer(feats[last])
        inputs = (*feats[:last], transformed)
        return self.mask_feature_head(inputs), transformed

    def resize_feats(self, x: Sequence[Tensor]) -> list[Tensor]:
        """Halve the first map and bring the last one to the size of the one before."""
        return resize_outer_levels(x)

    def forward(self, feats: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Predict kernels, classes and mask feature.

        Args:
            feats: Maps of the neck, strides 4 to 64.

        Returns:
            For each level kernels (B, C, S, S), for each level class logits (B, classes, S, S), and
            the mask feature (B, C, H, W).
        """
        feature, _ = self.mask_feature(feats)
        kernels, logits = [], []
        for feat, grid in zip(self.resize_feats(feats), self.num_grids, strict=True):
            cells = F.interpolate(feat, size=(grid, grid), mode='bilinear', align_corners=False)
            cells = self.transformer(cells).permute(0, 2, 3, 1)
            kernels.append(self.kernel_branch(cells).permute(0, 3, 1, 2))
            logits.append(self.cls_branch(cells).permute(0, 3, 1, 2))
        return kernels, logits, feature

    def loss_by_feat(
        self,
        mlvl_kernel_preds: list[Tensor],
        mlvl_cls_preds: list[Tensor],
        mask_feats: Tensor,
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict[str, Any]],
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            mlvl_kernel_preds: For each level (B, C, S, S).
            mlvl_cls_preds: For each level (B, classes, S, S).
            mask_feats: (B, C, H, W).
            batch_gt_instances: B instances with ``bboxes``, ``labels`` and ``masks``.
            batch_img_metas: B dicts with ``img_shape``.
            **kwargs: What mmdet hands over beside, not used.

        Returns:
            ``loss_mask`` and ``loss_cls``; without an object ``loss_mask`` is a zero that reaches
            every parameter, and all cells are background.
        """
        height, width = mask_feats.shape[-2:]
        targets = self.targets_of(batch_gt_instances, batch_img_metas, (height, width))
        num_cells = sum(int(level.sum()) for image in targets for level in image[2])
        num_targets = sum(len(level) for image in targets for level in image[3])
        kernels = [x.flatten(2) for x in mlvl_kernel_preds]
        dice = [mask_feats.new_zeros(0, dtype=torch.float32)]
        for i, (masks, _, _, cells) in enumerate(targets):
            for level_kernels, level_masks, level_cells in zip(kernels, masks, cells, strict=True):
                if level_cells:
                    logits = decode_mask_logits(level_kernels[i, :, level_cells].T, mask_feats[i])
                    dice.append(self.loss_mask(logits, level_masks, reduction_override='none'))
        # A rank without objects must still take part in the gradient exchange.
        silent = sum((x.sum() * 0 for x in kernels), mask_feats.sum() * 0).float()
        count = num_targets if self.mask_avg == 'targets' else num_cells
        loss_mask = torch.cat(dice).sum() / max(count, 1) + silent
        labels = torch.cat([level.flatten() for image in targets for level in image[1]])
        cls_logits = torch.cat([x.flatten(2) for x in mlvl_cls_preds], 2).mT.flatten(0, 1)
        # Compat: the class loss is divided by the distinct cells of this rank plus one.
        loss_cls = self.loss_cls(cls_logits.float(), labels, avg_factor=num_cells + 1)
        return dict(loss_mask=loss_mask, loss_cls=loss_cls)

    def targets_of(
        self,
        gts: Sequence[InstanceData],
        metas: Sequence[dict[str, Any]],
        size_hw: tuple[int, int],
    ) -> list[tuple[list[Tensor], ...]]:
        """Assign the objects of a batch to cells, by mmdet's rules for SOLOv2.

        Args:
            gts: B instances with ``bboxes``, ``labels`` and ``masks``; the masks may be padded.
            metas: B dicts with ``img_shape``.
            size_hw: (H, W) of the mask feature.

        Returns:
            For each image four lists over the levels: mask targets (n, H, W) uint8, labels
            (S, S) with background = number of classes, positive cells (S * S,) bool, and the cell
            of every mask target.
        """
        # The reduction to a quarter must see the image alone: padding would change its scale.
        unpadded = [_without_padding(gt, meta) for gt, meta in zip(gts, metas, strict=True)]
        return [self._get_targets_single(gt, featmap_sizes=size_hw) for gt in unpadded]

    def predict_by_feat(
        self,
        mlvl_kernel_preds: list[Tensor],
        mlvl_cls_scores: list[Tensor],
        mask_feats: Tensor,
        batch_img_metas: list[dict[str, Any]],
        rescale: bool = True,
        **kwargs: Any,
    ) -> list[InstanceData]:
        """Decode the detections of a batch.

        Args:
            mlvl_kernel_preds: For each level (B, C, S, S).
            mlvl_cls_scores: For each level logits (B, classes, S, S).
            mask_feats: (B, C, H, W).
            batch_img_metas: B dicts with ``img_shape`` and ``ori_shape``.
            rescale: Masks at the size of the original image instead of the network's input.
            **kwargs: What mmdet hands over beside, not used.

        Returns:
            B instances, see :func:`isda_suite.methods.sotr.postprocess.detect`.
        """
        results = []
        for i, meta in enumerate(batch_img_metas):
            img_shape = tuple(meta['img_shape'][:2])
            results.append(
                detect(
                    [x[i] for x in mlvl_cls_scores],
                    [x[i] for x in mlvl_kernel_preds],
                    mask_feats[i],
                    img_shape,
                    tuple(meta['ori_shape'][:2]) if rescale else img_shape,
                    self.strides,
                    **(self.test_cfg or {}),
                )
            )
        return results


def _without_padding(gt: InstanceData, meta: dict[str, Any]) -> InstanceData:
    """Cut masks to the image; boxes and labels stay."""
    height, width = meta['img_shape'][:2]
    if (gt.masks.height, gt.masks.width) == (height, width):
        return gt
    masks = BitmapMasks(gt.masks.to_ndarray()[:, :height, :width], height, width)
    return InstanceData(bboxes=gt.bboxes, labels=gt.labels, masks=masks)
