"""A tiny DefVisTR and videos for it."""

import torch

from isda_suite.apis.model import load_model
from tests.methods.defvistr.build import small_config

_CONFIG = """
default_scope = 'mmdet'
model = {model!r}
model['data_preprocessor'] = dict(
    type='TrackDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True, pad_mask=True, pad_size_divisor=1)
pipeline = [
    dict(type='TransformBroadcaster', transforms=[
        dict(type='isda_suite.LoadImage'),
        dict(type='isda_suite.ResizeShortSide', scale=32)]),
    dict(type='isda_suite.PackClipInputs')]
test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='isda_suite.VideoSampler'),
    dataset=dict(
        type='isda_suite.YouTubeVISClipDataset', data_root={root!r}, ann_file='valid.json',
        data_prefix=dict(img_path='valid/JPEGImages'), clip_len=3, overlap={overlap},
        metainfo=dict(classes=('disk', 'box', 'star', 'triangle')), test_mode=True,
        pipeline=pipeline))
"""


def write_defvistr_config(folder, root='absent', overlap=2, **changes):
    """Write the config of a model of 3 frames and 2 instances."""
    file = folder / 'defvistr.py'
    model = small_config(**changes)
    file.write_text(_CONFIG.format(model=model, root=str(root), overlap=overlap))
    return file


def load_defvistr(config):
    """Build it with random weights that find something in every frame."""
    torch.manual_seed(3)
    model = load_model(config, device='cpu')
    torch.nn.init.normal_(model.head.cls_branch.weight, std=0.5)
    return model
