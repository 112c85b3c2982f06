"""Estimate the memory of a training or a test on the CPU before it runs.

Without the data set, the size of the images is the largest that the pipeline of the configuration
can give, or what --image-size says.

Example:
    python tools/fit.py configs/isda/isda_r50_3x_coco.py --batch-size 2 --image-size 800 1333
"""

import argparse
import json

from isda_suite.engine.arguments import add_config, add_config_options
from isda_suite.engine.exit_codes import leave, run_tool


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'must be at least 1, got {value}')
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
    parser.add_argument('--json', action='store_true', help='the parts in bytes, as JSON')
    add_config_options(parser)
    args = parser.parse_args()
    if args.workers is not None and args.workers < 0:
        parser.error(f'--workers must be at least 0, got {args.workers}')
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
        from isda_suite.apis.performance.memory_estimate import describe

    found, load, room = check_fit(
        load_config(args.config, parse_options(args.cfg_options)),
        training=not args.test,
        batch_size=args.batch_size,
        size_hw=tuple(args.image_size) if args.image_size else None,
        workers=args.workers,
        num_instances=args.instances,
        amp=args.amp,
    )
    fits = room is None or found.total <= room
    if args.json:
        content = {**vars(found), 'total': found.total, 'available': room, 'fits': fits}
        print(json.dumps(content, indent=2))
        return
    print(describe(found, load, room))
    print('it fits' if fits else 'it will probably not fit')


if __name__ == '__main__':
    leave(run_tool(main))
