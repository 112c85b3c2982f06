"""Pack images and label images without making the labels eight times as large."""

from typing import Any

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.datasets.transforms import PackSegInputs as MmsegPackSegInputs

from isda_suite.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackSegInputs(MmsegPackSegInputs):
    """Pack a sample for a segmentor, with labels of the type they were loaded in.

    mmseg's makes them int64 in the worker. Losses want that, and
    ``isda_suite.SegDataPreProcessor`` does it on the device.

    Args:
        **kwargs: Arguments of mmseg's ``PackSegInputs``.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack a sample.

        Returns:
            ``inputs``, (3, H, W) as loaded, and ``data_samples`` with ``gt_sem_seg``, (1, H, W).
        """
        label = results.get('gt_seg_map')
        rest = {key: value for key, value in results.items() if key != 'gt_seg_map'}
        packed = super().transform(rest)
        if label is not None:
            data = torch.from_numpy(np.ascontiguousarray(label[None]))
            packed['data_samples'].gt_sem_seg = PixelData(data=data)
        return dict(packed)
