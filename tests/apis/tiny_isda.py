"""A tiny ISDA and the checkpoint of a Deformable-DETR it could start from."""

from pathlib import Path

import torch

from isda_suite.checkpoint.renaming import convert_state_dict, invert
from isda_suite.methods.isda import convert
from isda_suite.resources import resource_root

_TEXT = """
_base_ = [{base!r}]
model = dict(
    num_queries=9,
    backbone=dict(depth=18, base_channels=8, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=32, norm_cfg=dict(num_groups=4)),
    mask_feat_head=dict(in_channels=32, feat_channels=16, out_channels=32,
                        norm_cfg=dict(num_groups=4)),
    encoder=dict(num_layers=1, layer_cfg=dict(
        self_attn_cfg=dict(embed_dims=32), ffn_cfg=dict(embed_dims=32, feedforward_channels=32))),
    decoder=dict(num_layers=2, layer_cfg=dict(
        self_attn_cfg=dict(embed_dims=32), cross_attn_cfg=dict(embed_dims=32),
        ffn_cfg=dict(embed_dims=32, feedforward_channels=32))),
    positional_encoding=dict(num_feats=16),
    bbox_head=dict(num_classes={num_classes}, embed_dims=32, mask_channels=32),
    test_cfg=dict(max_per_img=5))
"""


def write_isda_config(folder: Path, num_classes: int) -> Path:
    """Write a config of a tiny ISDA that inherits from the published one."""
    file = folder / 'isda.py'
    base = str(resource_root() / 'configs' / 'isda' / 'isda_r50_3x_coco.py')
    file.write_text(_TEXT.format(base=base, num_classes=num_classes))
    return file


def start_checkpoint(ours: dict) -> dict:
    """Turn entries of an ISDA into those of an mmdet 2 Deformable-DETR of the same sizes."""
    new = ('neck.convs.0.', 'mask_feat_head.', 'bbox_head.kernel_branches.')
    shared = {name: tensor for name, tensor in ours.items() if not name.startswith(new)}
    state, _ = convert_state_dict(shared, invert(convert.ISDA))
    for layer in range(2):
        state[f'bbox_head.reg_branches.{layer}.0.weight'] = torch.zeros(32, 32)
        state[f'bbox_head.reg_branches.{layer}.0.bias'] = torch.zeros(32)
    return state
