"""Estimate the memory of a training or a test before it runs.

Without the data set, the size of the images is the largest that the pipeline of the configuration
can give, or what --image-size says.

Example:
    python tools/fit.py configs/isda/isda_r50_3x_coco.py --batch-size 2 --image-size 800 1333
"""

import argparse
import json
from typing import Any

from isda_suite.engine.arguments import add_config, add_config_options
from isda_suite.engine.exit_codes import leave, run_tool


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'must be at least 1, got {value}')
    return value


def _gigabytes(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f'must be above 0, got {value}')
    return value


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config(parser)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument('--train', action='store_true', help='a training (default)')
    kind.add_argument('--test', action='store_true', help='a test or a prediction')
    parser.add_argument('--batch-size', type=_count, help="default: the configuration's")
    parser.add_argument('--image-size', type=_count, nargs=2, metavar=('H', 'W'), help='pixels')
    parser.add_argument('--instances', type=_count, help='objects in each image')
    parser.add_argument('--workers', type=int, help='data loading processes')
    parser.add_argument('--amp', action='store_true', help='mixed precision (bfloat16)')
    parser.add_argument(
        '--device',
        choices=('cpu', 'cuda'),
        default='cpu',
        help='whose memory: of the machine (default), or of a GPU, which need not be there',
    )
    parser.add_argument(
        '--memory', type=_gigabytes, metavar='GB', help='what is there (default: asks the device)'
    )
    parser.add_argument(
        '--checkpoint', metavar='FILE', help='of a test: read before its first pass, so it counts'
    )
    parser.add_argument('--json', action='store_true', help='the parts in bytes, as JSON')
    add_config_options(parser)
    args = parser.parse_args()
    if args.workers is not None and args.workers < 0:
        parser.error(f'--workers must be at least 0, got {args.workers}')
    if args.checkpoint and not args.test:
        parser.error('--checkpoint is for --test')
    return args


def main() -> None:
    """Estimate and print."""
    args = parse_args()
    from isda_suite.compat.warning_filters import filter_known_warnings, quiet_imports
    from isda_suite.engine.config_file import parse_options
    from isda_suite.engine.launch import load_config

    filter_known_warnings()
    with quiet_imports():
        from isda_suite.apis.performance.memory_check import check_fit

    fit = check_fit(
        load_config(args.config, parse_options(args.cfg_options)),
        training=not args.test,
        batch_size=args.batch_size,
        size_hw=tuple(args.image_size) if args.image_size else None,
        workers=args.workers,
        num_instances=args.instances,
        amp=args.amp,
        device=args.device,
        checkpoint=args.checkpoint,
        room=None if args.memory is None else int(args.memory * 1e9),
    )
    if args.json:
        total = {'total': fit.found.total, 'available': fit.room, 'fits': fit.fits}
        print(json.dumps({**fit.found.parts, **total}, indent=2))
        return
    print(fit)
    print(_verdict(fit))


def _verdict(fit: Any) -> str:
    needed = f'{fit.found.total / 1e9:.2f} GB'
    lines = []
    if fit.on_gpu:
        lines.append(
            'of a GPU the tensors are counted; 0.60 GB for CUDA and a tenth for what PyTorch keeps '
            'are assumptions'
        )
        if fit.loaders:
            lines.append(f'data loading takes {fit.loaders / 1e9:.2f} GB of the machine beside it')
    if fit.room is None:
        what = 'torch sees no GPU here' if fit.on_gpu else 'this system does not tell what is free'
        lines.append(f'{what}: --memory GB compares with what another has')
    elif fit.fits:
        lines.append('it fits')
    else:
        there = f'{"the GPU" if fit.on_gpu else "the machine"} has {fit.room / 1e9:.2f} GB'
        lines.append(f'it will not fit: it needs about {needed}, {there}; {fit.advice()}')
    return '\n'.join(lines)


if __name__ == '__main__':
    leave(run_tool(main))
