"""Detections of CondInst as AdelaiDet makes them, for checkpoints that were trained there.

IUQ itself has no post-processing: the plain detector predicts.
"""

from typing import Any

import torch
from mmcv.ops import batched_nms
from mmdet.models.dense_heads import CondInstBboxHead
from mmengine import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from isda_suite.registry import MODELS


@MODELS.register_module()
class AdelaiDetCondInstBboxHead(CondInstBboxHead):
    """CondInst's box head with the scores of AdelaiDet.

    A location counts where class score times centre-ness is above ``score_thr``; mmdet asks the
    class score alone. The final score is the square root of the product. Weights and losses are
    mmdet's, and so are the names of ``test_cfg``.
    """

    def _predict_by_feat_single(
        self,
        cls_score_list: list[Tensor],
        bbox_pred_list: list[Tensor],
        score_factor_list: list[Tensor],
        param_pred_list: list[Tensor],
        mlvl_points: list[Tensor],
        mlvl_strides: list[Tensor],
        img_meta: dict[str, Any],
        cfg: ConfigDict | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> InstanceData:
        """Decode one image; arguments as in mmdet."""
        cfg = cfg or self.test_cfg
        parts = (
            cls_score_list,
            bbox_pred_list,
            score_factor_list,
            param_pred_list,
            mlvl_points,
            mlvl_strides,
        )
        levels = [self._candidates(level, img_meta, cfg) for level in zip(*parts, strict=True)]
        found = InstanceData.cat(levels)
        if len(found) and with_nms:
            _, kept = batched_nms(found.bboxes, found.scores, found.labels, cfg.nms)
            found = found[kept[: cfg.max_per_img]]
        if rescale:
            found.bboxes = found.bboxes / found.bboxes.new_tensor(img_meta['scale_factor']).repeat(
                (1, 2)
            )
        return found

    def _candidates(
        self, level: tuple[Tensor, ...], img_meta: dict[str, Any], cfg: ConfigDict
    ) -> InstanceData:
        """Choose the best pairs of location and class of one level."""
        logits, distances, centerness, params, points, strides = level
        scores = logits.flatten(1).T.sigmoid() * centerness.flatten(1).T.sigmoid()
        places, labels = (scores > cfg.score_thr).nonzero(as_tuple=True)
        values = scores[places, labels]
        values, best = values.topk(min(cfg.nms_pre, len(values)))
        places, labels = places[best], labels[best]
        boxes = self.bbox_coder.decode(
            points[places], distances.flatten(1).T[places], max_shape=img_meta['img_shape']
        )
        return InstanceData(
            bboxes=boxes,
            scores=torch.sqrt(values),
            labels=labels,
            param_preds=params.flatten(1).T[places],
            points=points[places],
            strides=strides[places],
        )
