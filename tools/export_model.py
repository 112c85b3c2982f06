#!/usr/bin/env python
"""Export a model with its normalisation and post-processing as ONNX, or for torch.export.

What was written is run and compared with PyTorch before it gets its name. docs/export.md says what
goes in and comes out.

Example:
    python tools/export_model.py isda_r50_3x_coco CKPT --size 800 1344 --dynamic --out isda.onnx
"""

import argparse
from pathlib import Path

from isda_suite.engine.arguments import add_config, add_config_options, add_trust_checkpoint
from isda_suite.engine.exit_codes import leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config(parser)
    parser.add_argument('checkpoint', metavar='CKPT', help='its weights')
    parser.add_argument('--out', help='file to write (default: name of the configuration)')
    parser.add_argument('--format', choices=['onnx', 'torch'], default='onnx', help='default: onnx')
    parser.add_argument(
        '--size', type=int, nargs=2, required=True, metavar=('H', 'W'), help='of the input'
    )
    parser.add_argument('--dynamic', action='store_true', help='leave height and width open')
    parser.add_argument('--batch-size', type=int, default=1, metavar='N', help='default: 1')
    parser.add_argument('--opset', type=int, metavar='N', help='ONNX operator set (default: 20)')
    parser.add_argument(
        '--no-optimize', action='store_true', help='write ONNX as it is, which is faster'
    )
    parser.add_argument(
        '--no-check', action='store_true', help='do not run and compare what was written'
    )
    add_config_options(parser)
    add_trust_checkpoint(parser)
    args = parser.parse_args()
    if min(args.size) < 1 or args.batch_size < 1:
        parser.error('--size and --batch-size must be positive')
    return args


def main() -> None:
    """Export, and say what came of it."""
    args = parse_args()
    from isda_suite.compat.warning_filters import filter_known_warnings, quiet_imports

    filter_known_warnings()
    with quiet_imports():
        from isda_suite.apis.model import load_model
        from isda_suite.engine.config_file import parse_options, read_config
        from isda_suite.export.exporting import FORMATS, export_model

    cfg = read_config(args.config, parse_options(args.cfg_options))
    model = load_model(cfg, args.checkpoint, 'cpu', args.trust_checkpoint)
    done = export_model(
        model,
        args.out or f'{Path(args.config).stem}{FORMATS[args.format]}',
        args.format,
        tuple(args.size),
        args.dynamic,
        not args.no_check,
        args.batch_size,
        optimize=not args.no_optimize,
        opset_version=args.opset,
    )
    for size, differences in done.differences.items():
        listed = ', '.join(f'{one.name} {one.largest:.1e}' for one in differences)
        print(f'equal to PyTorch at {size}: largest differences {listed}')
    print(f'wrote {done.path} ({done.path.stat().st_size} bytes)')


if __name__ == '__main__':
    leave(run_tool(main))
