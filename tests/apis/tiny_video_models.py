"""A model of clips that runs in milliseconds: it finds squares by their colours."""

import torch
from mmdet.models.mot import BaseMOTModel

from isda_suite.registry import MODELS

VIDEO_MODEL = """
default_scope = 'mmdet'
custom_imports = dict(imports=['tests.apis.tiny_video_models'], allow_failed_imports=False)
model = dict(
    type='isda_suite.ColourTracker', num_frames=4,
    data_preprocessor=dict(
        type='TrackDataPreprocessor', mean=[120.] * 3, std=[60.] * 3, bgr_to_rgb=True,
        pad_mask=True, pad_size_divisor=1))
pipeline = [
    dict(type='TransformBroadcaster', share_random_params=True, transforms=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(1333, 24), keep_ratio=True),
        dict(type='LoadTrackAnnotations', with_mask=True)]),
    dict(type='PackTrackInputs')]
test_dataloader = dict(batch_size=1, num_workers=0, dataset=dict(
    type='YouTubeVISDataset', dataset_version='2019', data_root='absent/', ann_file='absent.json',
    metainfo=dict(classes=('square', 'disk')), test_mode=True, pipeline=pipeline))
"""


@MODELS.register_module(force=True)
class ColourTracker(BaseMOTModel):
    """Notes what it is fed.

    Args:
        num_frames: T.
    """

    def __init__(self, num_frames, data_preprocessor=None, init_cfg=None):
        super().__init__(data_preprocessor, init_cfg)
        self.num_frames = num_frames
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.fed = []

    def _forward(self, inputs, data_samples=None, **kwargs):
        self.fed.append((inputs, data_samples))
        return inputs.mean(dim=(2, 3, 4)) * self.scale

    def loss(self, inputs, data_samples, **kwargs):
        raise NotImplementedError

    def predict(self, inputs, data_samples, **kwargs):
        self._forward(inputs, data_samples)
        return data_samples
