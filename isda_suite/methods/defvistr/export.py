"""DefVisTR for export: raw outputs of one clip; linking clips stays outside."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.export_form import EXPORT_FORMS, ExportForm, random_pixels

from .head import EXTRA_LOGITS


@EXPORT_FORMS.register_module()
class DefVisTRExport(ExportForm):
    """Clips to class logits, boxes and mask logits of every instance in every frame.

    All frames have the size of the clip, without padding. :func:`.postprocess.clip_tracks` turns
    the outputs into instances and :class:`.linking.ClipLinker` links clips, both with numbers of
    the processor alone.

    Args:
        model: A DefVisTR.
        batch_size: B.

    Raises:
        ModelConfigError: for a model without masks.
    """

    detectors: ClassVar[tuple[str, ...]] = ('DefVisTR',)
    results: ClassVar[str] = 'clip'
    outputs: ClassVar[tuple[str, ...]] = ('cls_logits', 'boxes', 'mask_logits')

    def __init__(self, model: Any, batch_size: int = 1) -> None:
        super().__init__(model, batch_size)
        if model.head.mask_branch is None:
            raise ModelConfigError('head.mask_branch: a model without masks is not exported')

    def example_inputs(self, size_hw: tuple[int, int], seed: int = 0) -> dict[str, Tensor]:
        """Make clips (B, T, 3, H, W)."""
        shape = (self.batch_size, self.model.num_frames, 3, *size_hw)
        return {'images': random_pixels(shape, seed)}

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the network on clips.

        Args:
            images: (B, T, 3, H, W) uint8 RGB.

        Returns:
            ``cls_logits`` (B, K, T, num_classes + 2), ``boxes`` (B, K, T, 4) as relative (cx, cy,
            w, h), ``mask_logits`` (B, K, T, H/4, W/4), sides rounded up.
        """
        model = self.model
        b, t = images.shape[:2]
        frames = self.image_input(images.flatten(0, 1)).unflatten(0, (b, t))
        feats = model.extract_feat(frames)
        size_hw = feats[-1].shape[-2:]
        padding = torch.zeros((b, t, *size_hw), dtype=torch.bool, device=images.device)
        hidden, memory = model.forward_transformer(feats, padding, padded=False)
        cls_logits, boxes = model.head(hidden[-1:])
        return cls_logits[-1], boxes[-1], model.head.masks(hidden, memory, feats, padding)

    def describe(self) -> dict[str, Any]:
        """Return the length of a clip and what the logits mean."""
        return {
            'num_frames': self.model.num_frames,
            'num_instances': self.model.num_instances,
            'extra_logits': EXTRA_LOGITS,
            'mask_thr': self.model.head.video_tracks.mask_thr,
            'mask_stride': 4,
        }
