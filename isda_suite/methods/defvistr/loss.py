"""Loss terms of DefVisTR, of all decoder layers.

Two forms, equal in value and gradient. In two steps, so that masks are predicted only for slots
with a target::

    matches = match_layers(assigner, cls_logits, boxes, targets)
    mask_logits = mask_branch(..., select=matched_slots(matches[-1]))
    num_boxes = count_boxes(targets, cls_logits)
    losses = detection_losses(cls_logits, boxes, targets, matches, num_boxes, settings)
    losses |= mask_losses(mask_logits, targets, matches[-1], num_boxes, settings)

or with the masks of all slots: :func:`sequence_losses`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmdet.models.losses.dice_loss import dice_loss
from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmdet.utils import reduce_mean
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from isda_suite.layers.errors import ModelConfigError

from .matching import (
    BOX_EPS,
    SequenceHungarianAssigner,
    SequenceMatch,
    box_overlaps,
    match_layers,
    matched_slots,
)
from .targets import ClipTargets

# Float32 values of resized masks that are handled at once (4 MB, so that they stay in the cache);
# about eight maps of that size live at a time.
CHUNK_VALUES = 2**20


@dataclass(frozen=True)
class LossSettings:
    """Weights and constants of the loss, with the published values.

    Attributes:
        cls: Weight of the cross-entropy.
        bbox: Weight of the L1 distance.
        giou: Weight of the generalised IoU.
        mask: Weight of the focal loss of masks.
        dice: Weight of the dice loss of masks.
        no_object: Class weight of "no object", the last logit.
        focal_alpha: Weight of foreground pixels, 0..1.
        focal_gamma: Exponent of the focal loss.
        mask_stride: Input pixels per cell of the mask logits.
    """

    cls: float = 1.0
    bbox: float = 5.0
    giou: float = 2.0
    mask: float = 1.0
    dice: float = 1.0
    no_object: float = 0.1
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    mask_stride: int = 4


def count_boxes(targets: Sequence[ClipTargets], like: Tensor) -> Tensor:
    """Compute the normaliser of box and mask losses: instances x frames, absent ones counted.

    Args:
        targets: The clips of this rank.
        like: Any tensor on the device of the model.

    Returns:
        () float32, the mean over ranks, at least 1.
    """
    count = sum(len(clip) * clip.num_frames for clip in targets)
    return reduce_mean(like.new_tensor(count, dtype=torch.float32)).clamp(min=1)


def generalised_iou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    r"""Compute one minus the generalised IoU, with :math:`\epsilon = 10^{-6}` in both fractions.

    .. math:: 1 - \left[\mathrm{IoU}_\epsilon
        - \frac{(A - U) + \epsilon}{A + \epsilon}\right], \quad A = \text{area of the hull}

    Args:
        boxes: (R, 4) xyxy.
        targets: (R, 4) xyxy.

    Returns:
        (R,) in [0, 2].
    """
    iou, union = box_overlaps(boxes, targets)
    top_left = torch.minimum(boxes[:, :2], targets[:, :2])
    sides = (torch.maximum(boxes[:, 2:], targets[:, 2:]) - top_left).clamp(min=0)
    hull = sides.prod(-1)
    return 1 - (iou - ((hull - union) + BOX_EPS) / (hull + BOX_EPS))


def _flat_matches(
    matches: Sequence[SequenceMatch], targets: Sequence[ClipTargets]
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
    """Give the matched outputs of a batch as (clip, slot, frame), their labels and boxes."""
    clips, slots, frames, labels, boxes = [], [], [], [], []
    for b, (match, clip) in enumerate(zip(matches, targets, strict=True)):
        slot, instance, frame = match.pairs()
        clips.append(torch.full_like(slot, b))
        slots.append(slot)
        frames.append(frame)
        labels.append(clip.labels[instance, frame])
        boxes.append(clip.boxes[instance, frame])
    at = (torch.cat(clips), torch.cat(slots), torch.cat(frames))
    return at, torch.cat(labels), torch.cat(boxes)


def _layer_losses(
    cls_logits: Tensor,
    boxes: Tensor,
    targets: Sequence[ClipTargets],
    matches: Sequence[SequenceMatch],
    num_boxes: Tensor,
    settings: LossSettings,
) -> dict[str, Tensor]:
    """Compute the terms without masks of one layer: (B, K, T, classes + 2) and (B, K, T, 4)."""
    at, labels, true_boxes = _flat_matches(matches, targets)
    no_object = cls_logits.shape[-1] - 1
    classes = torch.full(cls_logits.shape[:-1], no_object, device=cls_logits.device)
    classes[at] = labels
    class_weight = cls_logits.new_ones(no_object + 1)
    class_weight[no_object] = settings.no_object
    matched, true_boxes = boxes[at], true_boxes.to(boxes)
    giou = generalised_iou_loss(bbox_cxcywh_to_xyxy(matched), bbox_cxcywh_to_xyxy(true_boxes))
    with torch.no_grad():
        found = (cls_logits.argmax(-1) != no_object).flatten(1).sum(1)
        wanted = found.new_tensor([len(clip) * clip.num_frames for clip in targets])
    return {
        'loss_cls': settings.cls
        * F.cross_entropy(cls_logits.flatten(0, -2), classes.flatten(), class_weight),
        'loss_bbox': settings.bbox * (matched - true_boxes).abs().sum() / num_boxes,
        'loss_giou': settings.giou * giou.sum() / num_boxes,
        'cardinality_error': (found - wanted).abs().float().mean(),
    }


@torch.no_grad()
def _class_error(
    cls_logits: Tensor, targets: Sequence[ClipTargets], matches: Sequence[SequenceMatch]
) -> Tensor:
    """Compute 100 - the percentage of matched outputs with the right class; 100 without any."""
    at, labels, _ = _flat_matches(matches, targets)
    right = (cls_logits[at].argmax(-1) == labels).sum()
    return 100 - 100 * right.float() / max(len(labels), 1)


def detection_losses(
    cls_logits: Tensor,
    boxes: Tensor,
    targets: Sequence[ClipTargets],
    matches: Sequence[Sequence[SequenceMatch]],
    num_boxes: Tensor,
    settings: LossSettings | None = None,
) -> dict[str, Tensor]:
    """Compute class and box losses of all decoder layers, in float32 or better.

    Args:
        cls_logits: (N, B, K, T, num_classes + 2).
        boxes: (N, B, K, T, 4) cxcywh relative to the frame without padding.
        targets: The B clips.
        matches: For each layer the matches of the clips.
        num_boxes: (), from :func:`count_boxes`.
        settings: Weights; ``None`` for the published ones.

    Returns:
        ``loss_cls``, ``loss_bbox`` and ``loss_giou``, weighted; ``cardinality_error`` and
        ``class_error`` for the log. Layer i of the first N-1 has the prefix ``d{i}.``.
    """
    settings = settings or LossSettings()
    dtype = torch.promote_types(cls_logits.dtype, torch.float32)
    cls_logits, boxes = cls_logits.to(dtype), boxes.to(dtype)
    losses = {}
    last = len(cls_logits) - 1
    layers = zip(cls_logits.unbind(), boxes.unbind(), matches, strict=True)
    for i, (layer_logits, layer_boxes, layer_matches) in enumerate(layers):
        terms = _layer_losses(
            layer_logits, layer_boxes, targets, layer_matches, num_boxes, settings
        )
        prefix = '' if i == last else f'd{i}.'
        losses.update({prefix + name: value for name, value in terms.items()})
    losses['class_error'] = _class_error(cls_logits[-1], targets, matches[-1])
    return losses


def _mask_terms(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """Resize (R, h4, w4) logits to the (R, H, W) targets; give (2,): focal and dice sums."""
    size = targets.shape[-2:]
    resized = F.interpolate(logits[:, None], size, mode='bilinear', align_corners=False)[:, 0]
    truth = targets.to(resized.dtype)
    focal = py_sigmoid_focal_loss(resized, truth, gamma=gamma, alpha=alpha, reduction='none')
    dice = dice_loss(resized.sigmoid(), truth, eps=1.0, reduction='sum', naive_dice=True)
    return torch.stack([focal.flatten(1).mean(1).sum(), dice])


def _check_masks(
    mask_logits: Tensor,
    targets: Sequence[ClipTargets],
    matches: Sequence[SequenceMatch],
    stride: int,
) -> None:
    """Refuse masks that do not belong to the targets; a wrong loss would be worse than none."""
    num_pairs = sum(map(len, matches))
    num_frames = targets[0].num_frames
    if mask_logits.shape[:2] != (num_pairs, num_frames):
        raise ModelConfigError(
            f'mask logits: expected ({num_pairs} matched slots, {num_frames} frames, h, w), got '
            f'shape {tuple(mask_logits.shape)}'
        )
    for clip in targets:
        if clip.masks is None:
            raise ModelConfigError(
                'targets: expected masks, found boxes alone; load masks in the pipeline '
                '(with_mask=True), or build the model without a mask branch'
            )
        cells = tuple(-(-side // stride) for side in clip.masks.shape[-2:])
        if cells != tuple(mask_logits.shape[-2:]):
            raise ModelConfigError(
                f'gt masks of {tuple(clip.masks.shape[-2:])} pixels: expected mask logits of '
                f'{cells} cells at stride {stride}, got {tuple(mask_logits.shape[-2:])}; set '
                f'pad_mask=True in the data_preprocessor, so that masks have the size of the '
                f'padded batch'
            )


def mask_losses(
    mask_logits: Tensor,
    targets: Sequence[ClipTargets],
    matches: Sequence[SequenceMatch],
    num_boxes: Tensor,
    settings: LossSettings | None = None,
) -> dict[str, Tensor]:
    r"""Compute the mask losses of the slots that have a target.

    Focal loss as a mean over pixels, dice :math:`1 - (2\sum pm + 1)/(\sum p + \sum m + 1)`, both
    summed over the frames the instance is in (an absent frame has no mask loss) and divided by
    ``num_boxes``. Resized maps are made some frames at a time and made again in the backward
    pass, so memory does not grow with instances and frames.

    Args:
        mask_logits: (P, T, h4, w4) of the slots of :func:`.matching.matched_slots`, in that
            order; P may be 0.
        targets: The B clips, with masks at the padded input size.
        matches: The matches of the clips in the last layer.
        num_boxes: (), from :func:`count_boxes`.
        settings: Weights; ``None`` for the published ones.

    Returns:
        ``loss_mask`` and ``loss_dice``, weighted; zeros connected to ``mask_logits`` without pairs.

    Raises:
        ModelConfigError: if the masks do not fit the targets or the matches.
    """
    settings = settings or LossSettings()
    _check_masks(mask_logits, targets, matches, settings.mask_stride)
    logits = mask_logits.to(torch.promote_types(mask_logits.dtype, torch.float32))
    sums = logits.sum() * logits.new_zeros(2) if len(logits) == 0 else logits.new_zeros(2)
    per_clip = torch.split(logits, [len(match) for match in matches])
    for clip_logits, match, clip in zip(per_clip, matches, targets, strict=True):
        truth = clip.masks
        assert truth is not None
        pair, frame = match.frames.nonzero(as_tuple=True)
        instance = match.instances[pair].to(truth.device)
        rows, at = clip_logits[pair, frame], frame.to(truth.device)
        step = max(1, CHUNK_VALUES // max(truth.shape[-2] * truth.shape[-1], 1))
        for i in range(0, len(rows), step):
            part = truth[instance[i : i + step], at[i : i + step]].to(rows.device)
            sums = sums + checkpoint(
                _mask_terms,
                rows[i : i + step],
                part,
                settings.focal_alpha,
                settings.focal_gamma,
                use_reentrant=False,
                preserve_rng_state=False,
            )
    focal, dice = (sums / num_boxes).unbind()
    return {'loss_mask': settings.mask * focal, 'loss_dice': settings.dice * dice}


def sequence_losses(
    cls_logits: Tensor,
    boxes: Tensor,
    mask_logits: Tensor | None,
    targets: Sequence[ClipTargets],
    assigner: SequenceHungarianAssigner,
    settings: LossSettings | None = None,
) -> dict[str, Tensor]:
    """Compute all losses from the outputs of all slots.

    Args:
        cls_logits: (N, B, K, T, num_classes + 2).
        boxes: (N, B, K, T, 4) cxcywh relative to the frame without padding.
        mask_logits: (B, K, T, h4, w4) of the last layer, or ``None`` for a model without masks.
        targets: The B clips.
        assigner: The matcher.
        settings: Weights; ``None`` for the published ones.

    Returns:
        See :func:`detection_losses` and :func:`mask_losses`.

    Raises:
        ModelConfigError: if the targets do not fit the outputs.
    """
    matches = match_layers(assigner, cls_logits, boxes, targets)
    num_boxes = count_boxes(targets, cls_logits)
    losses = detection_losses(cls_logits, boxes, targets, matches, num_boxes, settings)
    if mask_logits is not None:
        clips, slots = matched_slots(matches[-1]).unbind(-1)
        chosen = mask_logits[clips, slots]
        losses.update(mask_losses(chosen, targets, matches[-1], num_boxes, settings))
    return losses
