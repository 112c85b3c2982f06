"""SOLQ, the detector: backbone, neck, deformable transformer, head."""

from typing import Any

from mmdet.structures import OptSampleList
from torch import Tensor

from isda_suite.layers.deformable_detector import DeformableDetector, unpadded_samples
from isda_suite.layers.errors import ModelConfigError
from isda_suite.registry import MODELS


@MODELS.register_module()
class SOLQ(DeformableDetector):
    """Segment objects by learning queries: Deformable DETR plus a mask code per query.

    The detector is a Deformable DETR with box refinement; :class:`SOLQHead` regresses, beside class
    and box, the first coefficients of the cosine transform of each object's mask.

    Args:
        **kwargs: As :class:`mmdet.models.DeformableDETR`, without ``as_two_stage`` and with
            ``with_box_refine`` always on.

    Raises:
        ModelConfigError: for a variant that SOLQ does not have.

    Source: SOLQ (arXiv:2106.02351), section 3.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if kwargs.pop('as_two_stage', False):
            raise ModelConfigError('as_two_stage: SOLQ has no proposals, leave it out')
        if not kwargs.pop('with_box_refine', True):
            raise ModelConfigError('with_box_refine: SOLQ refines its boxes, leave it out')
        super().__init__(*args, with_box_refine=True, **kwargs)

    def forward_transformer(
        self, img_feats: tuple[Tensor, ...], batch_data_samples: OptSampleList = None
    ) -> dict[str, Any]:
        """Run encoder and decoder.

        Args:
            img_feats: Maps of the neck, strides 8 to 64.
            batch_data_samples: B samples with ``batch_input_shape`` and ``img_shape`` in their
                metainfo; None means that no image is padded.

        Returns:
            ``hidden_states`` (layers, B, Q, C) and ``references``: (B, Q, 2) as (x, y) in [0, 1],
            then for each layer (B, Q, 4) as (cx, cy, w, h) in [0, 1].
        """
        if batch_data_samples is None:
            batch_data_samples = unpadded_samples(img_feats[0], stride=8)
        head_inputs: dict[str, Any] = super().forward_transformer(img_feats, batch_data_samples)
        # Of a second stage, which SOLQ does not have.
        for name in ('enc_outputs_class', 'enc_outputs_coord'):
            head_inputs.pop(name, None)
        return head_inputs
