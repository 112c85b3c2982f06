"""Test-time augmentation, which needs the logits that prediction otherwise drops."""

from typing import Any

from mmseg.models.segmentors import SegTTAModel

from isda_suite.registry import MODELS


@MODELS.register_module()
class ISDNetTTA(SegTTAModel):
    """Average the soft-max maps of several views.

    Args:
        **kwargs: Arguments of mmseg's ``SegTTAModel``; ``module`` is an :class:`ISDNet`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.module.test_cfg['keep_logits'] = True
