"""ISDA's prediction head: class logits and position-aware kernels per query.

The class stays whole, and takes more arguments than a layer should: mmdet builds, trains and asks
a head as one object, and its detector sets three of the arguments. The formulas are in ``loss`` and
``postprocess``.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.layers import inverse_sigmoid
from mmdet.structures import SampleList
from mmdet.structures.mask import PolygonMasks
from mmdet.utils import reduce_mean
from mmengine.model import BaseModule, bias_init_with_prob
from mmengine.structures import InstanceData
from torch import Tensor, nn

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.mask_boxes import boxes_around
from isda_suite.layers.option_checks import require_one_of
from isda_suite.registry import MODELS, TASK_UTILS

from .loss import (
    TARGET_DOWN,
    Match,
    downsample_masks,
    match_image,
    matched_masks,
    query_weights,
)
from .postprocess import detect

POSITION_MODES = ('logit', 'none')


@MODELS.register_module()
class ISDAHead(BaseModule):
    """Predict classes and masks from decoder queries; match, score and decode them.

    Shapes: N decoder layers, B images, Q queries, G targets, C mask channels, (H, W) = input / 4.

    The last two of the C kernel weights are the logits of the query's reference point (x, y), so
    that the mask depends on where the query looks; the mask loss trains the reference points
    through them.

    Args:
        num_classes: Classes without background.
        embed_dims: Channels of the queries.
        mask_channels: C, channels of the mask feature map and length of a kernel.
        num_kernel_fcs: Hidden layers of the kernel MLP.
        position_mode: ``'logit'`` (published) or ``'none'``: the MLP gives all C weights.
        target_down: How targets come to stride 4, see :func:`downsample_masks`.
        loss_cls: Config of the classification loss (sigmoid focal loss).
        loss_mask: Config of the mask loss (dice on probabilities).
        share_pred_layer: One branch for all decoder layers; set by the detector.
        num_pred_layer: N; set by the detector.
        as_two_stage: Must be False; set by the detector.
        train_cfg: ``assigner``: config of the Hungarian assigner. ``ignore_iof_thr``: queries
            whose mask lies in ignored regions (crowds) to more than this share are no negatives;
            ``None`` (published) takes them as negatives.
        test_cfg: ``max_per_img``, ``mask_thr``, ``mask_score``, ``score_thr``: arguments of
            :func:`isda_suite.methods.isda.postprocess.detect`.

    Raises:
        ModelConfigError: for an unknown ``position_mode`` or ``target_down``.

    Source: ISDA (arXiv:2202.12251), sections 2.2 and 2.3.
    """

    def __init__(
        self,
        num_classes: int,
        embed_dims: int = 256,
        mask_channels: int = 256,
        num_kernel_fcs: int = 2,
        position_mode: str = 'logit',
        target_down: str = 'bilinear',
        *,
        loss_cls: dict[str, Any],
        loss_mask: dict[str, Any],
        share_pred_layer: bool = True,
        num_pred_layer: int = 6,
        as_two_stage: bool = False,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        for name, value, known in (
            ('position_mode', position_mode, POSITION_MODES),
            ('target_down', target_down, TARGET_DOWN),
        ):
            require_one_of(f'bbox_head.{name}', value, known)
        if as_two_stage:
            raise ModelConfigError('as_two_stage: ISDA has no proposals, leave it out')
        self.num_classes = num_classes
        self.position_mode = position_mode
        self.target_down = target_down
        self.test_cfg = dict(test_cfg or {})
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_mask = MODELS.build(loss_mask)
        assigner = (train_cfg or {}).get('assigner')
        self.assigner = TASK_UTILS.build(assigner) if assigner else None
        self.ignore_iof_thr = (train_cfg or {}).get('ignore_iof_thr')
        out_channels = mask_channels - (2 if position_mode == 'logit' else 0)

        def branches(make: Any) -> nn.ModuleList:
            # Shared branches are one module listed N times, as in the published checkpoints.
            first = make()
            rest = [first if share_pred_layer else make() for _ in range(num_pred_layer - 1)]
            return nn.ModuleList([first, *rest])

        self.cls_branches = branches(lambda: nn.Linear(embed_dims, num_classes))
        self.kernel_branches = branches(
            lambda: _kernel_mlp(embed_dims, num_kernel_fcs, out_channels)
        )

    def init_weights(self) -> None:
        """Start from a foreground probability of 0.01 for every class."""
        super().init_weights()
        for branch in self.cls_branches:
            nn.init.constant_(branch.get_parameter('bias'), bias_init_with_prob(0.01))

    def forward(
        self, hidden_states: Tensor, references: list[Tensor], mask_feature: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict from the queries of all decoder layers.

        Args:
            hidden_states: (N, B, Q, embed_dims).
            references: At least N tensors (B, Q, 2), the reference points each layer started from,
                (x, y) in [0, 1].
            mask_feature: (B, C, H, W), passed through.

        Returns:
            Class logits (N, B, Q, num_classes), kernels (N, B, Q, C), ``mask_feature``.
        """
        cls_logits, kernels = [], []
        for hidden, reference, cls_branch, kernel_branch in zip(
            hidden_states, references, self.cls_branches, self.kernel_branches, strict=False
        ):
            cls_logits.append(cls_branch(hidden))
            kernel = kernel_branch(hidden)
            if self.position_mode == 'logit':
                position = inverse_sigmoid(reference[..., :2].to(torch.float32), eps=1e-5)
                kernel = torch.cat([kernel.to(position.dtype), position], dim=-1)
            kernels.append(kernel)
        return torch.stack(cls_logits), torch.stack(kernels), mask_feature

    def loss(
        self,
        hidden_states: Tensor,
        references: list[Tensor],
        mask_feature: Tensor,
        batch_data_samples: SampleList,
    ) -> dict[str, Tensor]:
        """Compute all loss terms of a batch; arguments as :meth:`forward`.

        Args:
            hidden_states: (N, B, Q, embed_dims).
            references: N + 1 tensors (B, Q, 2).
            mask_feature: (B, C, H, W).
            batch_data_samples: B samples whose ``gt_instances`` hold ``labels`` and ``masks``.

        Returns:
            ``loss_cls`` and ``loss_mask`` of the last layer, ``d0.loss_cls`` … of the others.
        """
        all_cls, all_kernels, mask_feature = self(hidden_states, references, mask_feature)
        gts = [sample.gt_instances for sample in batch_data_samples]
        ignored = [sample.get('ignored_instances') for sample in batch_data_samples]
        return self.loss_by_feat(all_cls, all_kernels, mask_feature, gts, ignored)

    def loss_by_feat(
        self,
        all_cls: Tensor,
        all_kernels: Tensor,
        mask_feature: Tensor,
        gts: list[InstanceData],
        ignored: Sequence[InstanceData | None] = (),
    ) -> dict[str, Tensor]:
        """Compute the loss terms from raw outputs.

        Args:
            all_cls: (N, B, Q, num_classes) logits.
            all_kernels: (N, B, Q, C).
            mask_feature: (B, C, H, W).
            gts: B instances with ``labels`` (G,) and ``masks`` (bitmap or polygon masks, or a
                (G, h, w) array or tensor) at input size.
            ignored: B instances with ``masks`` and ``bboxes``, or ``None`` for an image; they
                count with ``ignore_iof_thr`` alone.

        Returns:
            Scalars, weights included.
        """
        targets = [self.targets_of(gt, mask_feature) for gt in gts]
        matches = [
            self.match(cls_logits, kernels, mask_feature, targets)
            for cls_logits, kernels in zip(all_cls, all_kernels, strict=True)
        ]
        masks = matched_masks(all_kernels, mask_feature, matches)
        weights = query_weights(all_kernels, mask_feature, matches, ignored, self.ignore_iof_thr)
        losses: dict[str, Tensor] = {}
        for layer, terms in enumerate(zip(all_cls, masks, matches, weights, strict=True)):
            prefix = '' if layer == len(all_cls) - 1 else f'd{layer}.'
            loss_cls, loss_mask = self._loss_single(*terms, targets)
            losses[f'{prefix}loss_cls'] = loss_cls
            losses[f'{prefix}loss_mask'] = loss_mask
        return losses

    def targets_of(self, gt: InstanceData, mask_feature: Tensor) -> InstanceData:
        """Bring the targets of one image to stride 4.

        Args:
            gt: ``labels`` and ``masks`` at input size.
            mask_feature: (B, C, H, W); its size is the targets'.

        Returns:
            ``labels`` (G,) and ``masks`` (G, H, W) float32.
        """
        masks = gt.masks
        if isinstance(masks, PolygonMasks):
            masks = masks.to_bitmap()
        masks = torch.as_tensor(getattr(masks, 'masks', masks)).to(mask_feature.device)
        size_hw = (mask_feature.shape[-2], mask_feature.shape[-1])
        if len(gt.labels) == 0:
            masks = masks.new_zeros((0, *(4 * n for n in size_hw)))
        small = downsample_masks(masks, size_hw, self.target_down)
        return InstanceData(labels=gt.labels.to(mask_feature.device), masks=small)

    def match(
        self, cls_logits: Tensor, kernels: Tensor, mask_feature: Tensor, targets: list[InstanceData]
    ) -> list[Match]:
        """Match the queries of one decoder layer, image by image.

        Args:
            cls_logits: (B, Q, num_classes).
            kernels: (B, Q, C).
            mask_feature: (B, C, H, W).
            targets: B results of :meth:`targets_of`.
        """
        return [
            match_image(self.assigner, cls_logits[i], kernels[i], mask_feature[i], gt)
            for i, gt in enumerate(targets)
        ]

    def _loss_single(
        self,
        cls_logits: Tensor,
        masks: Tensor,
        matches: list[Match],
        weights: Tensor | None,
        targets: list[InstanceData],
    ) -> tuple[Tensor, Tensor]:
        """Compute both terms of one decoder layer; ``masks`` are the matched ones (M, H, W)."""
        labels = cls_logits.new_full(cls_logits.shape[:2], self.num_classes, dtype=torch.long)
        for row, match, gt in zip(labels, matches, targets, strict=True):
            row[match.query_inds] = gt.labels[match.gt_inds]
        num_matched = reduce_mean(masks.new_tensor(float(len(masks)))).clamp(min=1)
        logits = cls_logits.flatten(0, 1).float()
        weight = None if weights is None else weights.flatten()
        loss_cls = self.loss_cls(logits, labels.flatten(), weight, avg_factor=num_matched)
        if len(masks) == 0:
            # A rank without objects must still take part in the gradient exchange.
            return loss_cls, masks.sum()
        target = torch.cat(
            [gt.masks[match.gt_inds] for gt, match in zip(targets, matches, strict=True)]
        )
        # Compat: the published normaliser is matched + 1e-5 here and matched in loss_cls.
        return loss_cls, self.loss_mask(masks, target, avg_factor=num_matched + 1e-5)

    def predict(
        self,
        hidden_states: Tensor,
        references: list[Tensor],
        mask_feature: Tensor,
        batch_data_samples: SampleList,
        rescale: bool = True,
    ) -> list[InstanceData]:
        """Decode the detections of a batch from the last decoder layer.

        Args:
            hidden_states: (N, B, Q, embed_dims).
            references: N + 1 tensors (B, Q, 2).
            mask_feature: (B, C, H, W).
            batch_data_samples: B samples with ``img_shape`` and ``ori_shape``.
            rescale: Masks at the size of the original image instead of the network's input.

        Returns:
            B instances, best first: ``scores``, ``labels``, ``masks`` (n, h, w) bool, ``bboxes``
            (n, 4) xyxy around the masks.
        """
        cls_logits, kernels, mask_feature = self(hidden_states, references, mask_feature)
        metas = [sample.metainfo for sample in batch_data_samples]
        return self.predict_by_feat(cls_logits[-1], kernels[-1], mask_feature, metas, rescale)

    def predict_by_feat(
        self,
        cls_logits: Tensor,
        kernels: Tensor,
        mask_feature: Tensor,
        metas: list[dict[str, Any]],
        rescale: bool = True,
    ) -> list[InstanceData]:
        """Decode detections from the raw outputs of one layer; see :meth:`predict`."""
        results = []
        for i, meta in enumerate(metas):
            img_shape = tuple(meta['img_shape'][:2])
            out_shape = tuple(meta['ori_shape'][:2]) if rescale else img_shape
            found = detect(
                cls_logits[i], kernels[i], mask_feature[i], img_shape, out_shape, **self.test_cfg
            )
            # Compat: the published code leaves the order of the class scores; sorted here, which
            # COCO AP does not see and users expect.
            order = found.scores.argsort(descending=True, stable=True)
            # Value by value: to index the whole copies its metainfo, which breaks compiled graphs.
            found = InstanceData(**{name: value[order] for name, value in found.items()})
            found.bboxes = boxes_around(found.masks).to(found.scores.dtype)
            results.append(found)
        return results


def _kernel_mlp(embed_dims: int, num_hidden: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(num_hidden):
        layers += [nn.Linear(embed_dims, embed_dims), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(embed_dims, out_channels))
