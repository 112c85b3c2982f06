"""A model of clips that runs in milliseconds: it finds things by their colours."""

import numpy as np
import torch
from mmdet.models.mot import BaseMOTModel

from isda_suite.methods.defvistr.linking import ClipLinker
from isda_suite.methods.defvistr.postprocess import clip_tracks
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
        dict(type='isda_suite.LoadImage'),
        dict(type='isda_suite.ResizeShortSide', scale=24),
        dict(type='isda_suite.LoadClipAnnotations')]),
    dict(type='isda_suite.PackClipInputs')]
test_dataloader = dict(batch_size=1, num_workers=0, dataset=dict(
    type='isda_suite.YouTubeVISClipDataset', clip_len=4, overlap=1, data_root='absent/',
    ann_file='absent.json', metainfo=dict(classes=('square', 'disk')), test_mode=True,
    pipeline=pipeline))
"""
#: BGR of what is found; class k has the k-th.
COLOURS = ((30, 200, 240), (230, 60, 40))


def scene(num_frames, second_from=0):
    """Return frames with a square of the first class, and one of the second from a frame on."""
    frames = np.full((num_frames, 48, 64, 3), 60, np.uint8)
    for number, frame in enumerate(frames):
        left = 4 + number % 24
        frame[8:24, left : left + 16] = COLOURS[0]
        if number >= second_from:
            frame[30:42, 40 - left : 56 - left] = COLOURS[1]
    return list(frames)


@MODELS.register_module(force=True)
class ColourTracker(BaseMOTModel):
    """Finds what has one of two colours, in slots that change places from clip to clip.

    Args:
        num_frames: T.
    """

    def __init__(self, num_frames, data_preprocessor=None, init_cfg=None):
        super().__init__(data_preprocessor, init_cfg)
        self.num_frames = num_frames
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.num_clips = 0

    def _forward(self, inputs, data_samples=None, **kwargs):
        return inputs.mean(dim=(2, 3, 4)) * self.scale

    def loss(self, inputs, data_samples, **kwargs):
        raise NotImplementedError

    def predict(self, inputs, data_samples, **kwargs):
        self._forward(inputs, data_samples)
        return data_samples

    def clip_linker(self, overlap, keep_tracks=True):
        return ClipLinker(overlap, keep_tracks=keep_tracks)

    def predict_clips(self, inputs, data_samples):
        return [self._find(clip, one) for clip, one in zip(inputs, data_samples, strict=True)]

    def _find(self, clip, sample):
        assert clip.shape[0] == self.num_frames
        self.num_clips += 1
        pixels = clip * 60 + 120  # RGB
        colours = torch.tensor(COLOURS).flip(1).to(pixels)
        distance = (pixels[None] - colours[:, None, :, None, None]).abs().amax(2)  # (K, T, h, w)
        masks = torch.where(distance < 60, 10.0, -10.0)
        present = (masks > 0).flatten(2).any(2)
        logits = torch.full((2, len(clip), 4), -5.0)
        for k in range(2):
            logits[k, :, 1 + k] = torch.where(present[k], 5.0, -20.0)
            logits[k, :, 3] = torch.where(present[k], -5.0, 20.0)
        order = [1, 0] if sample.clip_start // 2 % 2 else [0, 1]
        size_hw = tuple(sample.ori_shape)
        return clip_tracks(logits[order], masks[order], sample.num_valid, size_hw)
