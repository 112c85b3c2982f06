"""SOTR, the detector: backbone, feature pyramid, head."""

from mmdet.models.detectors import SOLOv2
from torch import Tensor

from isda_suite.layers.errors import ModelConfigError
from isda_suite.registry import MODELS


@MODELS.register_module()
class SOTR(SOLOv2):
    """Segment objects with transformers: a SOLOv2 whose towers are one shared transformer.

    Backbone and neck give five maps of strides 4 to 64; :class:`SOTRHead`, the ``mask_head``, does
    the rest. Training and prediction are those of mmdet's ``SOLOv2``.

    Source: SOTR (arXiv:2108.06747), section 3.
    """

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of the neck.

        Args:
            batch_inputs: (B, 3, H, W), normalised; H and W are multiples of 32.

        Returns:
            Five maps (B, C, H / s, W / s), strides s = 4, 8, 16, 32, 64; the last one rounded up.

        Raises:
            ModelConfigError: if H or W is no multiple of 32.
        """
        height, width = batch_inputs.shape[-2:]
        if height % 32 or width % 32:
            raise ModelConfigError(
                f'batch_inputs: height and width must be multiples of 32, got {height} x {width}; '
                'set pad_size_divisor=32 in the data_preprocessor of the model'
            )
        return super().extract_feat(batch_inputs)
