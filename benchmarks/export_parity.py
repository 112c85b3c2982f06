#!/usr/bin/env python
"""Export small models and compare what was written with PyTorch; write the table.

Weights are random, of a fixed seed, with class layers that find something. Every model is written
as ONNX and as a program of torch.export, for one size and with free sides, run at the sizes stated
and compared with the model in PyTorch; torch.compile is asked whether it makes one graph of it that
computes the same, and into how many graphs the model's own prediction falls.

Example:
    python benchmarks/export_parity.py --json benchmarks/results/export_parity.json
"""

import argparse
import json
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SIZE = (96, 128)
R18 = [64, 128, 256, 512]


@dataclass
class Model:
    """A model to export.

    Attributes:
        config: Its configuration.
        classifiers: Layers that predict classes.
        reduce: Makes the configuration small.
        size: Height and width.
        std: Of the weights of these layers; of their biases 2.5 times as much.
    """

    config: str
    classifiers: tuple[str, ...] = ()
    reduce: Callable[[Any], None] | None = None
    size: tuple[int, int] = SIZE
    std: float = 0.2


def reduce_condinst(model: Any) -> None:
    """Take ResNet-18, and fewer candidates."""
    detector = model.detector
    detector.backbone.update(depth=18, init_cfg=None)
    detector.neck.in_channels = R18
    detector.test_cfg.nms_pre = 200


def reduce_mask2former(model: Any) -> None:
    """Take ResNet-18, and fewer layers and queries."""
    detector = model.detector
    detector.backbone.update(depth=18, init_cfg=None)
    head = detector.panoptic_head
    head.update(in_channels=R18, num_queries=20)
    head.pixel_decoder.encoder.num_layers = 1
    head.transformer_decoder.num_layers = 3


def reduce_queryinst(model: Any) -> None:
    """Take ResNet-18, two stages and few proposals."""
    model.backbone.update(depth=18, init_cfg=None)
    model.neck.in_channels = R18
    # mmdet takes as many proposals as results.
    model.rpn_head.num_proposals = model.test_cfg.rcnn.max_per_img = 20
    head = model.roi_head
    head.update(num_stages=2, stage_loss_weights=[1, 1])
    head.update(bbox_head=head.bbox_head[:2], mask_head=head.mask_head[:2])
    model.train_cfg.rcnn = model.train_cfg.rcnn[:2]


MODELS = {
    'ISDA': Model('isda_sample', ('bbox_head.cls_branches.0',)),
    'DefVisTR': Model('defvistr_sample', ('head.cls_branch',)),
    'IDIP': Model('idip_sample', ('roi_head.box_head.fc_cls', 'roi_head.mask_head.logits')),
    'ISDNet': Model('isdnet_r18_sample'),
    'IUQ (SOLOv2)': Model('iuq_solov2-r18_sample', ('mask_head.conv_cls',)),
    'IUQ (CondInst)': Model(
        'iuq_condinst-r50_8xb2-36e_coco',
        # The towers too: with mmdet's weights all cells of a random model have the same score.
        (*(f'bbox_head.cls_convs.{i}.conv' for i in range(4)), 'bbox_head.conv_cls'),
        reduce_condinst,
        (160, 192),
        0.03,
    ),
    'IUQ (Mask2Former)': Model(
        'iuq_mask2former-r50_8xb2-50e_coco', ('panoptic_head.cls_embed',), reduce_mask2former
    ),
    'IUQ (QueryInst)': Model(
        'mmdet::queryinst/queryinst_r50_fpn_1x_coco.py',
        tuple(f'roi_head.bbox_head.{i}.{name}' for i in (0, 1) for name in ('fc_cls', 'fc_reg')),
        reduce_queryinst,
        std=0.01,  # boxes stay at the image, where mmdet can paste masks
    ),
    'SOTR': Model('sotr_sample', ('mask_head.cls_branch',)),
    'SOLQ': Model('solq_sample', ('bbox_head.cls_branches.0',)),
}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--json', type=Path, help='results; those of other models there stay')
    parser.add_argument('--only', nargs='+', choices=list(MODELS), default=list(MODELS))
    parser.add_argument(
        '--backends', nargs='*', default=['eager', 'inductor'], help='of torch.compile'
    )
    parser.add_argument(
        '--variants', nargs='*', default=['onnx', 'onnx free', 'torch', 'torch free']
    )
    parser.add_argument(
        '--no-predict', action='store_true', help='do not compile what the model itself predicts'
    )
    return parser.parse_args()


def build(entry: Model) -> Any:
    """Build a small model whose class layers find something."""
    import torch
    from mmengine.config import Config

    from isda_suite.apis.model import load_model
    from isda_suite.engine.config_file import read_config

    cfg = (
        Config.fromstring(f"_base_ = ['{entry.config}']", '.py')
        if '::' in entry.config
        else read_config(entry.config)
    )
    if entry.reduce:
        entry.reduce(cfg.model)
    torch.manual_seed(1)
    model = load_model(cfg, device='cpu')
    generator = torch.Generator().manual_seed(2)
    for layer in (model.get_submodule(name) for name in entry.classifiers):
        torch.nn.init.normal_(layer.weight, std=entry.std, generator=generator)
        torch.nn.init.normal_(layer.bias, std=2.5 * entry.std, generator=generator)
    return model


def measure(model: Any, size: tuple[int, int], variant: str, folder: Path) -> dict[str, Any]:
    """Export a model in one way and return what was found."""
    from isda_suite.export.exporting import FORMATS, export_model

    format_, _, free = variant.partition(' ')
    start = time.process_time()
    path = folder / f'model{FORMATS[format_]}'
    try:
        done = export_model(model, path, format_, size, bool(free), optimize=False)
    except Exception as error:  # the table says which do not work
        return {'error': f'{type(error).__name__}: {str(error).strip()[:300]}'}
    found = {
        'largest_difference': {
            size: {one.name: one.largest for one in rows} for size, rows in done.differences.items()
        },
        'cpu_s': round(time.process_time() - start, 1),
        'megabytes': round(path.stat().st_size / 2**20, 2),
    }
    for name in ('opset', 'inputs', 'outputs'):
        if name in done.description:
            found[name] = done.description[name]
    return found


def compiled(model: Any, size: tuple[int, int], backend: str) -> dict[str, Any]:
    """Let torch.compile make one graph of the exported form, and compare its results."""
    from torch._dynamo.exc import Unsupported

    from isda_suite.export.compiling import compiled_differences

    start = time.process_time()
    try:
        rows = compiled_differences(model, size, backend)
    except Unsupported as error:
        return {'graph_breaks': [str(error).strip().splitlines()[0]]}
    except Exception as error:  # the table says so
        return {'error': f'{type(error).__name__}: {str(error).strip()[:300]}'}
    return {
        'graph_breaks': [],
        'largest_difference': {one.name: one.largest for one in rows},
        'equal': all(one.equal for one in rows),
        'cpu_s': round(time.process_time() - start, 1),
    }


def predicted(model: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Find out where torch.compile breaks the model's own prediction."""
    from isda_suite.apis.performance.speed_protocols import SpeedSettings, prepare_step
    from isda_suite.export.compiling import breaks_of

    settings = SpeedSettings(protocol='model', height=size[0], width=size[1])
    return asdict(breaks_of(prepare_step(model, settings).run))


def main() -> None:
    """Measure, and write after every step."""
    args = parse_args()
    warnings.filterwarnings('ignore')
    import onnx
    import onnxruntime
    import torch

    results = json.loads(args.json.read_text()) if args.json and args.json.is_file() else {}
    results['machine'] = {
        'processor': platform.machine(),
        'torch': torch.__version__,
        'onnx': onnx.__version__,
        'onnxruntime': onnxruntime.__version__,
    }
    models = results.setdefault('models', {})
    for name in args.only:
        entry = MODELS[name]
        model = build(entry)
        row = models.setdefault(name, {})
        row.update(config=entry.config, size=list(entry.size))
        steps = [*args.variants, *(f'compile {backend}' for backend in args.backends)]
        for step in [*steps, *([] if args.no_predict else ['predict'])]:
            kind, _, rest = step.partition(' ')
            with tempfile.TemporaryDirectory() as folder:
                if kind == 'compile':
                    row[step] = compiled(model, entry.size, rest)
                elif kind == 'predict':
                    row[step] = predicted(model, entry.size)
                else:
                    row[step] = measure(model, entry.size, step, Path(folder))
            print(name, step, json.dumps(row[step]), flush=True)
            if args.json:
                args.json.write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
    main()
