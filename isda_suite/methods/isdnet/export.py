"""ISDNet for export: logits at an eighth of the size, and the class of every pixel."""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError
from isda_suite.layers.export_form import EXPORT_FORMS, ExportForm, random_pixels


@EXPORT_FORMS.register_module()
class ISDNetExport(ExportForm):
    """Images to class maps, the whole image in one pass.

    There is no padding: it would change the result, as the fusion looks at the mean of the image.

    Args:
        model: An ISDNet.
        batch_size: B.

    Raises:
        ModelConfigError: if ``test_cfg.mode`` is not ``'whole'``.
    """

    detectors: ClassVar[tuple[str, ...]] = ('ISDNet',)
    results: ClassVar[str] = 'class_map'
    outputs: ClassVar[tuple[str, ...]] = ('logits', 'class_map')

    def __init__(self, model: Any, batch_size: int = 1) -> None:
        super().__init__(model, batch_size)
        if model.test_cfg.mode != 'whole':
            raise ModelConfigError(
                f"test_cfg.mode: the exported form is that of 'whole', got "
                f'{model.test_cfg.mode!r}; cut images into windows outside of it'
            )

    def example_inputs(self, size_hw: tuple[int, int], seed: int = 0) -> dict[str, Tensor]:
        """Make images (B, 3, H, W)."""
        return {'images': random_pixels((self.batch_size, 3, *size_hw), seed)}

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Classify the pixels.

        Args:
            images: (B, 3, H, W) uint8 RGB.

        Returns:
            ``logits`` (B, K, H/8, W/8), sides rounded up, and ``class_map`` (B, H, W) uint8, or
            int64 from 256 classes on.
        """
        logits = self.model.class_logits(self.image_input(images))
        full = F.interpolate(logits.float(), images.shape[-2:], mode='bilinear')
        classes = full.argmax(1)
        return logits, classes if logits.shape[1] > 255 else classes.byte()
