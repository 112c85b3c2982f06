"""SOLQ's prediction head: class, refined box and mask code per query."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import DeformableDETRHead
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh
from mmdet.utils import reduce_mean
from mmengine.model import constant_init
from mmengine.structures import InstanceData
from torch import Tensor, nn

from isda_suite.layers.option_checks import require_one_of
from isda_suite.registry import MODELS, TASK_UTILS

from .loss import Match, code_masks, image_factor, match_image, query_errors
from .postprocess import detect

VECTOR_AVG = ('matches', 'objects')


@MODELS.register_module()
class SOLQHead(DeformableDETRHead):
    """Predict classes, boxes and mask codes from decoder queries.

    Shapes: N decoder layers, B images, Q queries, G objects, K coefficients of a mask code.

    Class and box layers belong to their decoder layer; the mask branch is one module for all.

    Args:
        num_classes: Classes without background.
        embed_dims: Channels of the queries.
        vector_hidden_dims: Channels inside the mask branch.
        mask_coder: Config of :class:`DCTMaskCoder`.
        loss_vector: Config of the loss of the mask codes.
        vector_avg: What the mask loss is a mean over: ``'matches'`` (published): coefficients of
            the matched objects of this rank; ``'objects'``: the sum is divided by the number of
            objects, as the other terms are.
        vector_start_layer: Decoder layers before it (counted from 0) learn no masks.
        log_errors: Log ``class_error`` and ``cardinality_error`` of the last layer too.
        **kwargs: As :class:`mmdet.models.DeformableDETRHead`.

    Raises:
        ModelConfigError: for an unknown ``vector_avg``.

    Source: SOLQ (arXiv:2106.02351), sections 3.2 and 3.3.
    """

    def __init__(
        self,
        num_classes: int,
        embed_dims: int = 384,
        *,
        vector_hidden_dims: int = 1024,
        mask_coder: dict[str, Any] | None = None,
        loss_vector: dict[str, Any],
        vector_avg: str = 'matches',
        vector_start_layer: int = 0,
        log_errors: bool = True,
        test_cfg: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        require_one_of('bbox_head.vector_avg', vector_avg, VECTOR_AVG)
        self.vector_hidden_dims, self.vector_avg = vector_hidden_dims, vector_avg
        self.vector_start_layer, self.log_errors = vector_start_layer, log_errors
        coder = mask_coder or dict(type='isda_suite.DCTMaskCoder')
        self.mask_coder = TASK_UTILS.build(copy.deepcopy(coder))
        # mmdet changes the dicts it is given.
        super().__init__(num_classes, embed_dims=embed_dims, **copy.deepcopy(kwargs))
        self.test_cfg = dict(test_cfg or {})
        self.loss_vector = MODELS.build(loss_vector)

    def _init_layers(self) -> None:
        super()._init_layers()
        hidden = self.vector_hidden_dims
        self.vector_branch = nn.Sequential(
            nn.Linear(self.embed_dims, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, self.mask_coder.keep),
        )

    def init_weights(self) -> None:
        """Start from empty masks, foreground probability 0.01 and boxes at the references.

        The published bias of the mask codes is that of the boxes, -2 in all but two coefficients;
        new training has no use for it.
        """
        super().init_weights()
        constant_init(self.vector_branch[-1], 0, bias=0)

    def forward(
        self, hidden_states: Tensor, references: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict from the queries of all decoder layers.

        Args:
            hidden_states: (N, B, Q, embed_dims), the queries.
            references: At least N tensors, (B, Q, 2) as (x, y), then (B, Q, 4) as (cx, cy, w, h),
                in [0, 1].

        Returns:
            Class logits (N, B, Q, num_classes), boxes (N, B, Q, 4) as (cx, cy, w, h) in [0, 1], and
            mask codes (N, B, Q, K).
        """
        cls_logits, boxes = super().forward(hidden_states, references)
        return cls_logits, boxes, self.vector_branch(hidden_states)

    def loss(
        self, hidden_states: Tensor, references: list[Tensor], batch_data_samples: SampleList
    ) -> dict[str, Tensor]:
        """Compute all loss terms of a batch.

        Args:
            hidden_states: (N, B, Q, embed_dims).
            references: As for :meth:`forward`.
            batch_data_samples: B samples whose ``gt_instances`` hold ``labels``, ``bboxes`` and
                ``masks``.

        Returns:
            See :meth:`loss_by_feat`.
        """
        gts = [sample.gt_instances for sample in batch_data_samples]
        metas = [sample.metainfo for sample in batch_data_samples]
        cls_logits, boxes, codes = self(hidden_states, references)
        return self.loss_by_feat(cls_logits, boxes, codes, gts, metas)

    def loss_by_feat(
        self,
        all_cls: Tensor,
        all_boxes: Tensor,
        all_codes: Tensor,
        gts: list[InstanceData],
        metas: list[dict[str, Any]],
    ) -> dict[str, Tensor]:
        """Compute the loss terms from raw outputs.

        Args:
            all_cls: (N, B, Q, num_classes) logits.
            all_boxes: (N, B, Q, 4) as (cx, cy, w, h) in [0, 1].
            all_codes: (N, B, Q, K).
            gts: B instances with ``labels`` (G,), ``bboxes`` (G, 4) xyxy in pixels and ``masks``.
            metas: B dicts with ``img_shape``.

        Returns:
            ``loss_cls``, ``loss_bbox``, ``loss_iou`` and ``loss_vector`` of the last layer,
            ``d0.loss_cls`` ... of the others, weights included.
        """
        codes = [code_masks(gt, self.mask_coder) for gt in gts]
        losses: dict[str, Tensor] = {}
        last = len(all_cls) - 1
        for layer, outputs in enumerate(zip(all_cls, all_boxes, all_codes, strict=True)):
            matches = self.match(*outputs[:2], gts, metas)
            terms = self._layer_losses(*outputs, matches, gts, metas, codes)
            if layer < self.vector_start_layer:
                terms['loss_vector'] = outputs[2].sum() * 0
            start = '' if layer == last else f'd{layer}.'
            losses.update({start + name: term for name, term in terms.items()})
        if self.log_errors:
            losses.update(query_errors(all_cls[-1], matches, gts))
        return losses

    def match(
        self,
        cls_logits: Tensor,
        boxes: Tensor,
        gts: Sequence[InstanceData],
        metas: Sequence[dict[str, Any]],
    ) -> list[Match]:
        """Match the queries of one decoder layer, image by image.

        Args:
            cls_logits: (B, Q, num_classes).
            boxes: (B, Q, 4) as (cx, cy, w, h) in [0, 1].
            gts: B instances with ``labels`` and ``bboxes``.
            metas: B dicts with ``img_shape``.

        Returns:
            B matchings.
        """
        return [
            match_image(self.assigner, *image)
            for image in zip(cls_logits.detach(), boxes.detach(), gts, metas, strict=True)
        ]

    def _layer_losses(
        self,
        cls_logits: Tensor,
        boxes: Tensor,
        codes: Tensor,
        matches: list[Match],
        gts: list[InstanceData],
        metas: list[dict[str, Any]],
        target_codes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Compute the four terms of one decoder layer."""
        labels = cls_logits.new_full(cls_logits.shape[:2], self.num_classes, dtype=torch.long)
        factors, targets = [], []
        for row, match, gt, meta in zip(labels, matches, gts, metas, strict=True):
            row[match.query_inds] = gt.labels[match.gt_inds]
            targets.append(gt.bboxes[match.gt_inds].float())
            factors.append(image_factor(meta, targets[-1]).expand(len(targets[-1]), 4))
        pixels, factor = torch.cat(targets), torch.cat(factors)
        queries = [match.query_inds for match in matches]
        found = torch.cat([x[q] for x, q in zip(boxes, queries, strict=True)]).float()
        found_codes = torch.cat([x[q] for x, q in zip(codes, queries, strict=True)]).float()
        wanted = torch.cat([x[m.gt_inds] for x, m in zip(target_codes, matches, strict=True)])
        number = found.new_tensor(float(sum(len(gt) for gt in gts)))
        number = reduce_mean(number).clamp(min=1)
        # Compat: the published mean of codes is over this rank's matches, not over all ranks'.
        average = wanted.numel() if self.vector_avg == 'matches' else number
        logits = cls_logits.flatten(0, 1).float()
        terms = dict(
            loss_cls=self.loss_cls(logits, labels.flatten(), avg_factor=number),
            loss_bbox=self.loss_bbox(
                found, bbox_xyxy_to_cxcywh(pixels / factor), avg_factor=number
            ),
            loss_iou=self.loss_iou(bbox_cxcywh_to_xyxy(found) * factor, pixels, avg_factor=number),
            loss_vector=self.loss_vector(found_codes, wanted, avg_factor=max(average, 1)),
        )
        # A rank without objects must still take part in the gradient exchange.
        silent = (boxes.sum() + codes.sum()) * 0
        return terms | {name: terms[name] + silent for name in ('loss_bbox', 'loss_vector')}

    def predict_by_feat(
        self,
        all_cls: Tensor,
        all_boxes: Tensor,
        all_codes: Tensor,
        batch_img_metas: list[dict[str, Any]],
        rescale: bool = True,
    ) -> list[InstanceData]:
        """Decode the detections of a batch from the last decoder layer.

        Args:
            all_cls: (N, B, Q, num_classes) logits.
            all_boxes: (N, B, Q, 4) as (cx, cy, w, h) in [0, 1].
            all_codes: (N, B, Q, K).
            batch_img_metas: B dicts with ``img_shape`` and ``ori_shape``.
            rescale: Results at the size of the original image instead of the network's input.

        Returns:
            B instances, see :func:`isda_suite.methods.solq.postprocess.detect`.
        """
        results = []
        for i, meta in enumerate(batch_img_metas):
            height, width = meta['ori_shape' if rescale else 'img_shape'][:2]
            outputs = (all_cls[-1, i], all_boxes[-1, i], all_codes[-1, i])
            results.append(detect(*outputs, self.mask_coder, (height, width), **self.test_cfg))
        return results
