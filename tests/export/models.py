"""The models that tests export: one row a method. A method adds itself with one more."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from isda_suite.apis.model import load_model
from isda_suite.engine.config_file import apply_options, read_config
from tests.methods.iuq.build import model_of


@dataclass
class Row:
    """A method whose export is tested.

    Attributes:
        config: A small configuration of it.
        family: A small detector of ``tests/methods/iuq/build.py`` that takes the place of the
            configuration's.
        options: What makes it smaller still, by dotted name.
        classifiers: Names of the layers that predict classes; they get random weights that find
            something.
        quick: Whether its export is quick enough for the default run.
    """

    config: str
    options: dict[str, Any] = field(default_factory=dict)
    classifiers: tuple[str, ...] = ()
    family: str | None = None
    quick: bool = True


METHODS = {
    'isda': Row(
        'isda_sample',
        {'num_queries': 12, 'decoder.num_layers': 1, 'test_cfg.max_per_img': 9},
        ('bbox_head.cls_branches.0',),
    ),
    'defvistr': Row(
        'defvistr_sample',
        {
            'num_frames': 3,
            'num_queries': 3,
            'num_instances': 2,
            'transformer.encoder_layers': 1,
            'transformer.decoder_layers': 1,
        },
        ('head.cls_branch',),
        quick=False,
    ),
    'idip': Row(
        'idip_sample',
        {'num_proposals': 14, 'roi_head.num_stages': 1, 'test_cfg.sampling_steps': 2},
        ('roi_head.box_head.fc_cls', 'roi_head.mask_head.logits'),
        quick=False,
    ),
    'isdnet': Row('isdnet_r18_sample'),
    'iuq': Row(
        'iuq_solov2-r18_sample',
        {
            'detector.mask_head.num_grids': [6, 5, 4, 3, 2],
            'detector.mask_head.stacked_convs': 1,
            'detector.test_cfg.nms_pre': 400,
        },
        ('mask_head.conv_cls',),
    ),
    'sotr': Row(
        'sotr_sample',
        {
            'mask_head.num_grids': [6, 5, 4, 3, 2],
            'mask_head.transformer.depth': 1,
            'test_cfg.nms_pre': 400,
        },
        ('mask_head.cls_branch',),
        quick=False,
    ),
    'solq': Row(
        'solq_sample',
        {
            'num_queries': 12,
            'decoder.num_layers': 1,
            'test_cfg.max_per_img': 9,
            '+data_preprocessor.pad_size_divisor': 32,
        },
        ('bbox_head.cls_branches.0', 'bbox_head.vector_branch.4'),
        quick=False,
    ),
    'condinst': Row(
        'iuq_solov2-r18_sample',
        {'detector.test_cfg.nms_pre': 60, 'detector.test_cfg.max_per_img': 9},
        ('bbox_head.conv_cls', 'mask_head.mask_feature_head.conv_pred'),
        family='condinst',
        quick=False,
    ),
    'mask2former': Row(
        'iuq_solov2-r18_sample',
        classifiers=('panoptic_head.cls_embed',),
        family='mask2former',
        quick=False,
    ),
    'queryinst': Row(
        'iuq_solov2-r18_sample',
        classifiers=(
            'roi_head.mask_head.1.conv_logits',
            'roi_head.bbox_head.0.fc_reg',
            'roi_head.bbox_head.1.fc_cls',
        ),
        family='queryinst',
        quick=False,
    ),
}
QUICK = [name for name, row in METHODS.items() if row.quick]


def build(name: str, more: dict[str, Any] | None = None) -> torch.nn.Module:
    """Build the model of a row with random weights of a fixed seed, maybe with more options."""
    row = METHODS[name]
    options = {}
    for key, value in {**row.options, **(more or {})}.items():
        new = '+' if key.startswith('+') else ''
        options[f'{new}model.{key.removeprefix(new)}'] = value
    cfg = read_config(row.config)
    if row.family:
        cfg.model.detector = model_of(row.family)
    apply_options(cfg, options)
    torch.manual_seed(1)
    model = load_model(cfg, device='cpu')
    generator = torch.Generator().manual_seed(2)
    for layer in (model.get_submodule(one) for one in row.classifiers):
        torch.nn.init.normal_(layer.weight, std=0.2, generator=generator)
        torch.nn.init.normal_(layer.bias, std=0.5, generator=generator)
    return model


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Draw a picture of coloured fields, (H, W, 3) uint8."""
    generator = np.random.default_rng(seed)
    rough = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.kron(rough, np.ones((-(-height // 5), -(-width // 5), 1), np.uint8))[:height, :width]
