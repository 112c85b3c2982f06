"""Write the generated sample data set: python tools/misc/write_sample.py [data/sample]."""

import argparse
import sys


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Write the generated sample data set.')
    parser.add_argument('root', nargs='?', default='data/sample', help='folder to make')
    parser.add_argument(
        '--format',
        choices=('coco', 'semantic'),
        default='coco',
        help='instances in a COCO json, or a label image beside each image (default: %(default)s)',
    )
    parser.add_argument('--num-train', type=int, default=240)
    parser.add_argument('--num-val', type=int, default=60)
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write the data set; nothing happens when it is there already."""
    args = parse_args(argv)
    from isda_suite.datasets.sample import write_sample_coco, write_sample_semantic

    write = {'coco': write_sample_coco, 'semantic': write_sample_semantic}[args.format]
    try:
        root = write(args.root, args.num_train, args.num_val, seed=args.seed)
    except FileExistsError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'{root}: {args.num_train} training and {args.num_val} validation images')
    return 0


if __name__ == '__main__':
    from isda_suite.engine.exit_codes import leave, run_tool

    leave(run_tool(main))
