"""Prediction head of DefVisTR: classes, boxes and masks of the instances of a clip."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from mmdet.structures import TrackDataSample
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.option_checks import require_known
from isda_suite.registry import MODELS, TASK_UTILS

from .loss import LossSettings, count_boxes, detection_losses, mask_losses
from .mask_branch import MaskBranch
from .matching import match_layers, matched_slots
from .targets import clip_targets
from .whole_video import VideoTracks

EXTRA_LOGITS = 2
"""Logits beside the classes: the first, "not in this frame", and the last, "no object"."""


@MODELS.register_module()
class DefVisTRHead(BaseModule):
    """Predict class, box and mask of every instance in every frame; match, score and decode them.

    Axes: N decoder layers, B clips, K instances, T frames, C channels, (h, w) the map at stride
    32, (h4, w4) at stride 4.

    Args:
        num_classes: Classes without background. There are two logits more: the first means "not
            in this frame", the last "no object".
        embed_dims: C; set by the detector.
        num_heads: Heads of the attention of masks; set by the detector.
        mask_branch: Further arguments of :class:`.mask_branch.MaskBranch`; ``None`` for a model
            of boxes only.
        loss: Weights and constants that differ from the published ones, see
            :class:`isda_suite.methods.defvistr.loss.LossSettings`.
        train_cfg: ``assigner``: config of the matcher.
        test_cfg: How results are decoded and clips linked, see :class:`.whole_video.VideoTracks`.

    Source: VisTR (arXiv:2011.14503), section 3.
    """

    def __init__(
        self,
        num_classes: int,
        embed_dims: int = 384,
        num_heads: int = 8,
        mask_branch: dict[str, Any] | None = None,
        loss: dict[str, Any] | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_classes < 1:
            raise ModelConfigError(f'head.num_classes: expected at least 1, got {num_classes}')
        self.num_classes = num_classes
        self.cls_branch = nn.Linear(embed_dims, num_classes + EXTRA_LOGITS)
        self.reg_branch = nn.Sequential(
            nn.Linear(embed_dims, embed_dims),
            nn.ReLU(),
            nn.Linear(embed_dims, embed_dims),
            nn.ReLU(),
            nn.Linear(embed_dims, 4),
        )
        self.mask_branch = None
        if mask_branch is not None:
            self.mask_branch = MaskBranch(embed_dims, num_heads, **mask_branch)
        assigner = (train_cfg or {}).get('assigner')
        self.assigner = TASK_UTILS.build(assigner) if assigner else None
        self.loss_settings = _loss_settings(loss)
        self.video_tracks = VideoTracks(test_cfg or {})

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Predict classes and boxes from the queries of all layers; float32 also under autocast.

        Args:
            hidden: (N, B, K, T, C).

        Returns:
            Class logits (N, B, K, T, num_classes + 2) and boxes (N, B, K, T, 4), (cx, cy, w, h)
            relative to the frame without padding.
        """
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        return self.cls_branch(hidden).to(dtype), self.reg_branch(hidden).to(dtype).sigmoid()

    def masks(
        self,
        hidden: Tensor,
        memory: Tensor,
        feats: Sequence[Tensor],
        padding_mask: Tensor,
        select: Tensor | None = None,
    ) -> Tensor | None:
        """Predict masks from the last layer's queries.

        Args:
            hidden: (N, B, K, T, C).
            memory: (B, T, C, h, w).
            feats: The backbone's maps at strides 4, 8, 16, 32, each (B * T, ·, ·, ·).
            padding_mask: (B, T, h, w) bool, True where a frame is padding.
            select: (P, 2) int64 pairs (clip, instance) whose masks are wanted; ``None`` for all.

        Returns:
            (B, K, T, h4, w4) logits, or (P, T, h4, w4) of ``select``; ``None`` without the branch.
        """
        if self.mask_branch is None:
            return None
        masks: Tensor = self.mask_branch(hidden[-1], memory, feats[:3], padding_mask, select=select)
        return masks

    def loss(
        self,
        hidden: Tensor,
        memory: Tensor,
        feats: Sequence[Tensor],
        padding_mask: Tensor,
        data_samples: Sequence[TrackDataSample],
    ) -> dict[str, Tensor]:
        """Match and score; masks are predicted for matched instances only, as no other has a loss.

        Args:
            hidden: As for :meth:`masks`, like the next three.
            memory: See there.
            feats: See there.
            padding_mask: See there.
            data_samples: The B clips with the ground truth of their frames.

        Returns:
            The losses, by name.

        Raises:
            ModelConfigError: without an assigner, or for ground truth that does not fit.
        """
        if self.assigner is None:
            raise ModelConfigError(
                'train_cfg.assigner: missing, training needs one; give '
                "dict(type='isda_suite.SequenceHungarianAssigner')"
            )
        targets = [clip_targets(sample) for sample in data_samples]
        cls_logits, boxes = self(hidden)
        matches = match_layers(self.assigner, cls_logits, boxes, targets)
        num_boxes = count_boxes(targets, cls_logits)
        losses = detection_losses(
            cls_logits, boxes, targets, matches, num_boxes, self.loss_settings
        )
        wanted = matched_slots(matches[-1])
        masks = self.masks(hidden, memory, feats, padding_mask, wanted)
        if masks is not None:
            losses.update(mask_losses(masks, targets, matches[-1], num_boxes, self.loss_settings))
        return losses

    def predict(
        self,
        hidden: Tensor,
        memory: Tensor,
        feats: Sequence[Tensor],
        padding_mask: Tensor,
        data_samples: Sequence[TrackDataSample],
    ) -> list[TrackDataSample]:
        """Decode clips that follow one another; see :meth:`.whole_video.VideoTracks.push`.

        Args:
            hidden: As for :meth:`masks`, like the next three.
            memory: See there.
            feats: See there.
            padding_mask: See there.
            data_samples: The B clips.

        Returns:
            The B samples; that of a video's last clip holds its tracks.
        """
        clips = self._by_clip(hidden, memory, feats, padding_mask)
        pairs = zip(data_samples, clips, strict=True)
        return [self.video_tracks.push(sample, *clip) for sample, clip in pairs]

    def predict_clips(
        self,
        hidden: Tensor,
        memory: Tensor,
        feats: Sequence[Tensor],
        padding_mask: Tensor,
        data_samples: Sequence[TrackDataSample],
    ) -> list[InstanceData]:
        """Decode clips on their own; arguments as for :meth:`predict`.

        Returns:
            B times what :func:`.postprocess.clip_tracks` gives.
        """
        clips = self._by_clip(hidden, memory, feats, padding_mask)
        pairs = zip(data_samples, clips, strict=True)
        return [self.video_tracks.decode(one, logits, masks) for one, (logits, _, masks) in pairs]

    def _by_clip(
        self, hidden: Tensor, memory: Tensor, feats: Sequence[Tensor], padding_mask: Tensor
    ) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """Return class logits, boxes and mask logits of the last layer, clip by clip."""
        cls_logits, boxes = (x[-1] for x in self(hidden))
        masks = self.masks(hidden, memory, feats, padding_mask)
        each = [None] * len(cls_logits) if masks is None else masks
        return list(zip(cls_logits, boxes, each, strict=True))


def _loss_settings(config: dict[str, Any] | None) -> LossSettings:
    require_known('head.loss', config or {}, [field.name for field in fields(LossSettings)])
    return LossSettings(**(config or {}))
