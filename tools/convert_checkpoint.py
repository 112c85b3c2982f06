#!/usr/bin/env python
"""Convert a checkpoint of other code to the names of isda_suite, or ours back.

Example:
    python tools/convert_checkpoint.py detr.pth start.pth --method isda --config isda_r50_3x_coco
"""

import argparse

from isda_suite.engine.arguments import add_trust_checkpoint
from isda_suite.engine.exit_codes import leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', metavar='SRC', help='checkpoint to read (.pth, .safetensors)')
    parser.add_argument('dst', metavar='DST', help='checkpoint to write (.pth)')
    parser.add_argument(
        '--method', required=True, help='defvistr, idip, isda, isdnet, iuq, solq or sotr'
    )
    parser.add_argument(
        '--style',
        default='auto',
        help='naming style of SRC: auto, or for isda one of isda, mmdet2-deformable-detr, '
        'mmdet3-deformable-detr; for defvistr one of defvistr, vistr, detr, deformable-detr '
        '(default: auto)',
    )
    parser.add_argument('--config', help='config to compare names and shapes with')
    parser.add_argument(
        '--num-classes', type=int, help='leave out a class layer made for another number'
    )
    parser.add_argument(
        '--to-original', action='store_true', help='write the names of the published code'
    )
    parser.add_argument(
        '--take-last-copy',
        action='store_true',
        help='take the last of unequal copies of a shared layer instead of stopping',
    )
    add_trust_checkpoint(parser)
    return parser.parse_args()


def main() -> None:
    """Convert and print what was filled, new and unused."""
    args = parse_args()
    from isda_suite.compat.warning_filters import filter_known_warnings, quiet_imports

    filter_known_warnings()
    with quiet_imports():
        from isda_suite.apis.convert import ConversionOptions, convert_checkpoint

    options = ConversionOptions(
        method=args.method,
        style=args.style,
        config=args.config,
        num_classes=args.num_classes,
        to_original=args.to_original,
        unequal_copies='last' if args.take_last_copy else 'error',
        trust=args.trust_checkpoint,
    )
    report = convert_checkpoint(args.src, args.dst, options)
    print(report)
    print(f'wrote {args.dst}')


if __name__ == '__main__':
    leave(run_tool(main))
