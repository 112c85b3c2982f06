"""A stand-in for SparseInst, which is a project of mmdet and no part of its package.

Names, arguments, what the parts return and how losses are normalised are those of the project; what
is inside of the parts is only as much as a test needs. :func:`register` makes mmdet know it.
"""

import torch
import torch.nn.functional as F
from mmdet.models.detectors import BaseDetector
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from torch import nn


class InstanceContextEncoder(nn.Module):
    """One map of stride 8 from those of strides 8, 16, 32."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, out_channels, 1) for c in in_channels)

    def forward(self, maps):
        sides = [
            F.interpolate(lateral(one), maps[0].shape[-2:], mode='bilinear')
            for lateral, one in zip(self.laterals, maps, strict=True)
        ]
        return torch.relu(sum(sides))


class InstanceBranch(nn.Module):
    def __init__(self, in_channels, num_masks, num_classes, kernel_dim):
        super().__init__()
        self.iam_conv = nn.Conv2d(in_channels, num_masks, 3, padding=1)
        self.cls_score = nn.Linear(in_channels, num_classes)
        self.mask_kernel = nn.Linear(in_channels, kernel_dim)
        self.objectness = nn.Linear(in_channels, 1)

    def forward(self, x):
        activations = self.iam_conv(x)
        weights = activations.flatten(2).softmax(dim=-1)
        instances = weights @ x.flatten(2).transpose(1, 2)
        kernels = self.mask_kernel(instances)
        return self.cls_score(instances), kernels, self.objectness(instances), activations


class BaseIAMDecoder(nn.Module):
    """``in_channels`` counts two coordinates, ``ins_dim`` and others have no effect here."""

    def __init__(
        self, in_channels, num_classes, kernel_dim=128, scale_factor=2.0, num_masks=100, **_
    ):
        super().__init__()
        self.scale_factor = scale_factor
        self.inst_branch = InstanceBranch(in_channels, num_masks, num_classes, kernel_dim)
        self.mask_branch = nn.Conv2d(in_channels, kernel_dim, 1)

    def forward(self, x):
        rows, cols = (torch.linspace(-1, 1, side, device=x.device) for side in x.shape[-2:])
        places = torch.stack(torch.meshgrid(rows, cols, indexing='ij')).expand(len(x), -1, -1, -1)
        x = torch.cat([places, x], dim=1)
        logits, kernels, scores, _ = self.inst_branch(x)
        masks = torch.einsum('bqc,bchw->bqhw', kernels, self.mask_branch(x))
        masks = F.interpolate(masks, scale_factor=self.scale_factor, mode='bilinear')
        return {'pred_logits': logits, 'pred_masks': masks, 'pred_scores': scores}


def small_masks(gts, like):
    masks = [gt.masks.to_tensor(like.dtype, like.device) for gt in gts]
    return [F.interpolate(m[:, None], like.shape[-2:], mode='bilinear')[:, 0] for m in masks]


class SparseInstMatcher(nn.Module):
    def __init__(self, alpha=0.8, beta=0.2):
        super().__init__()
        self.alpha, self.beta = alpha, beta

    @torch.no_grad()
    def forward(self, outputs, gts):
        masks, pairs = outputs['pred_masks'].sigmoid(), []
        if not any(len(gt) for gt in gts):  # numbers of the wrong type, as there
            return [(torch.zeros(0), torch.zeros(0))] * len(gts)
        for p, logits, gt, m in zip(
            masks.flatten(2), outputs['pred_logits'], gts, small_masks(gts, masks), strict=True
        ):
            m = m.flatten(1)
            dice = 2 * p @ m.T / ((p * p).sum(1)[:, None] + (m * m).sum(1) + 1e-4)
            gain = dice**self.alpha * logits.sigmoid()[:, gt.labels] ** self.beta
            pairs.append(tuple(map(torch.as_tensor, linear_sum_assignment(gain, maximize=True))))
        return pairs


class SparseInstCriterion(nn.Module):
    def __init__(self, num_classes, assigner, loss_cls, loss_obj, loss_mask, loss_dice):
        super().__init__()
        self.matcher, self.num_classes = TASK_UTILS.build(assigner), num_classes
        self.loss_cls, self.loss_obj = MODELS.build(loss_cls), MODELS.build(loss_obj)
        self.loss_mask, self.loss_dice = MODELS.build(loss_mask), MODELS.build(loss_dice)

    def forward(self, outputs, gts, metas, ignored):
        match = getattr(self, 'matcher', None) or self.assigner
        pairs = [(q.long(), g.long()) for q, g in match(outputs, gts)]
        logits, masks = outputs['pred_logits'], outputs['pred_masks']
        number = reduce_mean(masks.new_tensor(float(sum(len(gt) for gt in gts)))).clamp(min=1)
        labels = torch.full(logits.shape[:2], self.num_classes, device=logits.device)
        for row, gt, (queries, inds) in zip(labels, gts, pairs, strict=True):
            row[queries] = gt.labels[inds]
        losses = dict(loss_cls=self.loss_cls(logits.flatten(0, 1), labels.flatten()) / number)
        found = torch.cat([m[q] for m, (q, _) in zip(masks, pairs, strict=True)]).flatten(1)
        if len(found) == 0:
            silent = (outputs['pred_scores'].sum() + masks.sum()) * 0
            return losses | dict.fromkeys(('loss_obj', 'loss_dice', 'loss_mask'), silent)
        small = small_masks(gts, masks)
        wanted = torch.cat([m[g] for m, (_, g) in zip(small, pairs, strict=True)]).flatten(1)
        scores = torch.cat(
            [s[q] for s, (q, _) in zip(outputs['pred_scores'], pairs, strict=True)]
        ).flatten()
        overlap = (found.detach().sigmoid() * wanted).mean(1)
        return losses | dict(
            loss_obj=self.loss_obj(scores, overlap),
            loss_dice=self.loss_dice(found, wanted) / number,
            loss_mask=self.loss_mask(found, wanted),
        )


class SparseInst(BaseDetector):
    def __init__(
        self, data_preprocessor, backbone, encoder, decoder, criterion, test_cfg, init_cfg=None
    ):
        super().__init__(data_preprocessor, init_cfg)
        self.backbone, self.encoder = MODELS.build(backbone), MODELS.build(encoder)
        self.decoder, self.criterion = MODELS.build(decoder), MODELS.build(criterion)
        self.test_cfg = test_cfg

    def extract_feat(self, inputs):
        return self.encoder(self.backbone(inputs))

    def _forward(self, inputs, samples=None):
        return self.decoder(self.extract_feat(inputs))

    def loss(self, inputs, samples):
        outputs = self._forward(inputs)
        gts, ignored, metas = unpack_gt_instances(samples)
        return self.criterion(outputs, gts, metas, ignored)

    def predict(self, inputs, samples, rescale=True):
        outputs, results = self._forward(inputs), []
        for logits, masks in zip(outputs['pred_logits'], outputs['pred_masks'], strict=True):
            scores, labels = logits.sigmoid().max(dim=-1)
            masks = F.interpolate(masks[None], inputs.shape[-2:], mode='bilinear')[0] > 0
            boxes = scores.new_zeros(len(scores), 4)
            found = dict(scores=scores, labels=labels, masks=masks, bboxes=boxes)
            results.append(InstanceData(**found))
        return self.add_pred_to_datasample(samples, results)


def register():
    """Let mmdet build it by the names of the project; the project's own go before it."""
    try:
        import projects.SparseInst.sparseinst  # noqa: F401
    except ImportError:
        for part in (InstanceContextEncoder, BaseIAMDecoder, SparseInstCriterion, SparseInst):
            MODELS.register_module(module=part, force=True)
        TASK_UTILS.register_module(module=SparseInstMatcher, force=True)
