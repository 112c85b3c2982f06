#!/usr/bin/env python
"""Export the sample models and compare what was written with PyTorch; write the table.

Weights are random, of a fixed seed, with class layers that find something. Every model is written
as ONNX and as a program of torch.export, for one size and with free sides, run at the sizes stated
and compared with the model in PyTorch; torch.compile is asked whether it makes one graph of it.

Example:
    python benchmarks/export_parity.py --json benchmarks/results/export_parity.json
"""

import argparse
import json
import platform
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

MODELS = {
    'ISDA': ('isda_sample', ('bbox_head.cls_branches.0',)),
    'DefVisTR': ('defvistr_sample', ('head.cls_branch',)),
    'IDIP': ('idip_sample', ('roi_head.box_head.fc_cls', 'roi_head.mask_head.logits')),
    'ISDNet': ('isdnet_r18_sample', ()),
    'IUQ (SOLOv2)': ('iuq_solov2-r18_sample', ('mask_head.conv_cls',)),
    'SOTR': ('sotr_sample', ('mask_head.cls_branch',)),
    'SOLQ': ('solq_sample', ('bbox_head.cls_branches.0',)),
}
SIZE = (96, 128)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--json', type=Path, help='results; those of other models there stay')
    parser.add_argument('--only', nargs='+', choices=list(MODELS), default=list(MODELS))
    parser.add_argument(
        '--backends', nargs='*', default=['eager'], help='of torch.compile (eager, inductor)'
    )
    parser.add_argument(
        '--variants', nargs='*', default=['onnx', 'onnx free', 'torch', 'torch free']
    )
    return parser.parse_args()


def build(config: str, classifiers: tuple[str, ...]) -> Any:
    """Build a sample model whose class layers find something."""
    import torch

    from isda_suite.apis.model import load_model

    torch.manual_seed(1)
    model = load_model(config, device='cpu')
    generator = torch.Generator().manual_seed(2)
    for layer in (model.get_submodule(name) for name in classifiers):
        torch.nn.init.normal_(layer.weight, std=0.2, generator=generator)
        torch.nn.init.normal_(layer.bias, std=0.5, generator=generator)
    return model


def measure(model: Any, variant: str, folder: Path) -> dict[str, Any]:
    """Export a model in one way and return what was found."""
    from isda_suite.export.exporting import FORMATS, export_model

    format_, _, free = variant.partition(' ')
    start = time.process_time()
    path = folder / f'model{FORMATS[format_]}'
    try:
        done = export_model(model, path, format_, SIZE, bool(free), optimize=False)
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


def compiled(model: Any, backend: str) -> dict[str, Any]:
    """Ask torch.compile for one graph."""
    from isda_suite.export.compiling import graph_breaks

    start = time.process_time()
    try:
        breaks = graph_breaks(model, SIZE, backend)
    except Exception as error:  # the table says so
        breaks = [f'{type(error).__name__}: {str(error).strip()[:300]}']
    return {'graph_breaks': breaks, 'cpu_s': round(time.process_time() - start, 1)}


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
        config, classifiers = MODELS[name]
        model = build(config, classifiers)
        row = models.setdefault(name, {})
        row['config'] = config
        steps = [*args.variants, *(f'compile {backend}' for backend in args.backends)]
        for step in steps:
            kind, _, rest = step.partition(' ')
            with tempfile.TemporaryDirectory() as folder:
                row[step] = (
                    compiled(model, rest)
                    if kind == 'compile'
                    else measure(model, step, Path(folder))
                )
            print(name, step, json.dumps(row[step]), flush=True)
            if args.json:
                args.json.write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
    main()
