"""CondInst for export: boxes of the locations that suppression leaves, with their masks."""

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from isda_suite.layers.class_suppression import survivors
from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.export_form import EXPORT_FORMS, InstanceForm
from isda_suite.layers.module_twins import with_attributes
from isda_suite.layers.open_points import OpenPointGenerator
from isda_suite.methods.iuq.postprocess import AdelaiDetCondInstBboxHead


class Candidates(NamedTuple):
    """Pairs of location and class of an image.

    Attributes:
        scores: (N,), -1 where the pair does not count.
        labels: (N,).
        boxes: (N, 4) xyxy in pixels of the input, clipped if the head clips.
        params: (N, P) parameters of the mask's network.
        priors: (N, 3) x, y and stride of the location.
    """

    scores: Tensor
    labels: Tensor
    boxes: Tensor
    params: Tensor
    priors: Tensor


@EXPORT_FORMS.register_module()
class CondInstExport(InstanceForm):
    """Images to scores, labels, boxes and mask probabilities at a quarter of the size.

    Suppression is part of the graph; a score of 0 stands for what it leaves out. mmdet enlarges
    CondInst's masks by a rule of its own, which the reader has to follow: the header's ``enlarge``
    is ``'aligned'``.

    Args:
        model: A CondInst of mmdet, its box head also with AdelaiDet's scores.
        batch_size: B.

    Raises:
        ModelConfigError: for another suppression than the plain one by class.
    """

    detectors: ClassVar[tuple[str, ...]] = ('CondInst',)
    results: ClassVar[str] = 'image_masks'
    outputs: ClassVar[tuple[str, ...]] = ('scores', 'labels', 'boxes', 'masks')
    # The coarsest level, of stride 128, keeps more than one cell.
    least_side: ClassVar[int] = 160

    def __init__(self, model: Any, batch_size: int = 1) -> None:
        super().__init__(model, batch_size)
        self.options: dict[str, Any] = {
            'score_thr': 0.0,
            'nms_pre': -1,
            'min_bbox_size': -1,
            'max_per_img': 100,
            **model.bbox_head.test_cfg,
        }
        nms = dict(self.options['nms'])
        self.iou_thr = float(nms.pop('iou_threshold'))
        if nms not in ({}, {'type': 'nms'}) or self.options['nms_pre'] < 1:
            raise ModelConfigError(
                f"test_cfg: nms=dict(type='nms', iou_threshold=…) and nms_pre > 0 can be exported, "
                f'got nms={dict(self.options["nms"])} and nms_pre={self.options["nms_pre"]}'
            )
        self.points = OpenPointGenerator(model.bbox_head.prior_generator)
        own = OpenPointGenerator(model.mask_head.prior_generator)
        self.mask_head = with_attributes(model.mask_head, prior_generator=own)
        self.joint_scores = isinstance(model.bbox_head, AdelaiDetCondInstBboxHead)

    def outputs_of(self, images: Tensor, sizes: Tensor) -> Iterable[tuple[Any, ...]]:
        """Give the levels, the mask feature (C, H/8, W/8) and the size of the image.

        A level is class logits, distances, centre-ness, parameters, (·, h, w) each, and priors
        (h * w, 3).
        """
        model = self.model
        feats = model.extract_feat(self.image_input(images, sizes))
        maps = list(zip(*model.bbox_head(feats), strict=True))
        priors = self.points.grid_priors(
            [level[0].shape[-2:] for level in maps], device=images.device, with_stride=True
        )
        mask_feature = self.mask_head.mask_feature_head(feats)
        for i, size_hw in enumerate(sizes):
            levels = [
                (*(one[i] for one in level), prior[:, :3])
                for level, prior in zip(maps, priors, strict=True)
            ]
            yield levels, mask_feature[i], size_hw

    def decode(
        self, levels: list[tuple[Tensor, ...]], mask_feature: Tensor, size_hw: Tensor
    ) -> tuple[Tensor, ...]:
        """Choose the best locations after suppression; masks are probabilities."""
        parts = [self._candidates(level, size_hw) for level in levels]
        found = Candidates(*(torch.cat(values) for values in zip(*parts, strict=True)))
        alive = survivors(found.boxes, found.scores, found.labels, found.scores >= 0, self.iou_thr)
        n, most = len(found.scores), self.options['max_per_img']
        count = min(most, n) if most > 0 else n
        scores, order = torch.where(alive, found.scores, -1).topk(count)
        priors = found.priors[order]
        chosen = dict(param_preds=found.params[order], points=priors[:, :2], strides=priors[:, 2])
        masks = self.mask_head.forward_single(mask_feature, chosen)[0].sigmoid()
        return scores.clamp(min=0), found.labels[order], found.boxes[order], masks

    def _candidates(self, level: tuple[Tensor, ...], size_hw: Tensor) -> Candidates:
        """Choose the best pairs of location and class of one level, ``nms_pre`` at most."""
        logits, distances, centerness, params, priors = level
        head, options = self.model.bbox_head, self.options
        rows = logits.flatten(1).mT.float()
        scores = rows.sigmoid() if head.use_sigmoid_cls else rows.softmax(-1)[:, :-1]
        factors = centerness.flatten().float().sigmoid()
        if self.joint_scores:
            scores = scores * factors[:, None]
        classes = scores.shape[1]
        scores, places = best_of(
            torch.where(scores > options['score_thr'], scores, -1).flatten(), options['nms_pre']
        )
        cells, labels = places // classes, places % classes
        boxes = head.bbox_coder.decode(priors[cells, :2], distances.flatten(1).mT[cells].float())
        if head.bbox_coder.clip_border:
            boxes = boxes.clamp(min=0).minimum(size_hw.flip(0).repeat(2).to(boxes.dtype))
        valid = scores >= 0
        if self.joint_scores:
            scores = scores.clamp(min=0).sqrt()
        else:
            scores = scores * factors[cells]
            if options['min_bbox_size'] >= 0:
                sides = boxes[:, 2:] - boxes[:, :2]
                valid = valid & (sides > options['min_bbox_size']).all(1)
        scores = torch.where(valid, scores, -1)
        return Candidates(scores, labels, boxes, params.flatten(1).mT[cells], priors[cells])

    def describe(self) -> dict[str, Any]:
        """Return the thresholds; a score of 0 is no detection."""
        return {
            'mask_thr': self.options['mask_thr'],
            'score_thr': 1e-9,
            'mask_stride': self.mask_head.mask_out_stride,
            'enlarge': 'aligned',
        }


def best_of(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the best of (N,) values and their places, ``count`` also if N is less but free.

    A number of results that depends on a free size would stay free in all that follows.
    """
    if not isinstance(values.shape[0], torch.SymInt):
        found = values.topk(min(count, len(values)))
        return found.values, found.indices
    found = F.pad(values, (0, count), value=-1).topk(count)
    return found.values, found.indices.clamp(max=values.shape[0] - 1)
