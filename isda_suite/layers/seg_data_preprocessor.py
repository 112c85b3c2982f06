"""The data preprocessor of segmentors whose labels arrive as bytes."""

from typing import Any

from mmseg.models import SegDataPreProcessor as MmsegSegDataPreProcessor

from isda_suite.registry import MODELS


@MODELS.register_module()
class SegDataPreProcessor(MmsegSegDataPreProcessor):
    """Normalise and pad on the device, and give losses the int64 labels they want.

    Args:
        **kwargs: Arguments of mmseg's ``SegDataPreProcessor``.
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch.

        Args:
            data: ``inputs``, list of (3, H, W) uint8, and ``data_samples``.
            training: Whether losses follow; labels stay as they are otherwise.

        Returns:
            ``inputs``, (B, 3, H, W) float32, and ``data_samples``.
        """
        prepared = super().forward(data, training)
        if training:
            for sample in prepared['data_samples']:
                sample.gt_sem_seg.data = sample.gt_sem_seg.data.long()
        return dict(prepared)
