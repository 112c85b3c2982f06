#!/usr/bin/env python
"""Measure the inference speed of a model on images or clips of one size.

The protocol says what is timed: `network` (no post-processing), `model` (with it), `end-to-end`
(8-bit images in host memory to results in host memory), `full` (the same to label maps, of
segmentors), or `paper` (as ISDNet's authors measured: 0.8 of the size, without arg-max). A model of
videos gets clips of the length that its configuration says; frames are counted, and clips.

Example:
    python tools/fps_test.py configs/isda/isda_r50_3x_coco.py --height 800 --width 1333
"""

import argparse

from isda_suite.engine.arguments import (
    add_config,
    add_config_options,
    add_device,
    add_trust_checkpoint,
)
from isda_suite.engine.exit_codes import leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config(parser)
    parser.add_argument('checkpoint', metavar='CKPT', nargs='?', help='default: random weights')
    parser.add_argument('--height', type=int, default=800, help='pixels (default: 800)')
    parser.add_argument('--width', type=int, default=1333, help='pixels (default: 1333)')
    parser.add_argument('--batch-size', type=int, default=1, help='images or clips a pass (1)')
    parser.add_argument(
        '--protocol',
        choices=('network', 'model', 'end-to-end', 'full', 'paper'),
        default='model',
        help='what is timed (default: model)',
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument(
        '--amp-dtype',
        choices=('float16', 'bfloat16'),
        help='its type (default: float16 on a GPU, bfloat16 on a CPU)',
    )
    parser.add_argument('--compile', action='store_true', help='run through torch.compile')
    parser.add_argument('--fuse', action='store_true', help='batch norms into convolutions')
    parser.add_argument('--channels-last', action='store_true', help='memory format of all maps')
    parser.add_argument('--warmup', type=int, help='untimed passes (default: 5; paper: 100)')
    parser.add_argument('--iters', type=int, help='timed passes (default: 30; paper: 300)')
    add_device(parser)
    parser.add_argument('--out', metavar='JSON', help='write the result here')
    add_config_options(parser)
    add_trust_checkpoint(parser)
    args = parser.parse_args()
    for name in ('height', 'width', 'batch_size', 'iters'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    return args


def main() -> None:
    """Measure, print, write."""
    args = parse_args()
    from isda_suite.compat.warning_filters import filter_known_warnings, quiet_imports
    from isda_suite.engine.config_file import parse_options, read_config

    filter_known_warnings()
    with quiet_imports():
        from isda_suite.apis.performance.speed import (
            SpeedSettings,
            describe,
            measure_speed,
            write_report,
        )

    settings = SpeedSettings(
        height=args.height,
        width=args.width,
        batch_size=args.batch_size,
        protocol=args.protocol,
        amp_dtype=args.amp_dtype or ('auto' if args.amp else None),
        compiled=args.compile,
        fused=args.fuse,
        channels_last=args.channels_last,
        warmup=args.warmup,
        iters=args.iters,
    )
    cfg = read_config(args.config, parse_options(args.cfg_options))
    report = measure_speed(
        cfg, settings, args.checkpoint, device=args.device, trust=args.trust_checkpoint
    )
    print(describe(report))
    if args.out:
        write_report(report, args.out)
        print(f'wrote {args.out}')


if __name__ == '__main__':
    leave(run_tool(main))
