"""Hold out videos of a YouTube-VIS training file, to evaluate on what no training has seen.

The official validation sets have no annotations. The same file, share and seed always give the
same split. Exit codes: 0 written, 2 wrong command or path, 3 a file that cannot be split.
"""

import argparse

from isda_suite.engine.exit_codes import leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('ann_file', help='annotation file, such as DATA_ROOT/train.json')
    parser.add_argument('--share', type=float, default=0.1, help='part of the videos (%(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='another seed holds out other videos')
    parser.add_argument('--out', help='folder for both files (default: beside the annotation file)')
    args = parser.parse_args()
    if not 0 < args.share < 1:
        parser.error(f'--share must lie between 0 and 1, got {args.share}')
    return args


def main() -> None:
    """Write both files and say how many videos each has."""
    args = parse_args()
    from isda_suite.compat.warning_filters import quiet_imports

    with quiet_imports():
        from isda_suite.apis.videos.hold_out import hold_out
        from isda_suite.datasets.annotation_file import read_annotation_file

    for path in hold_out(args.ann_file, args.share, args.seed, args.out):
        found = read_annotation_file(path, 'YouTube-VIS', ('videos', 'categories'))
        print(f'{path}: {len(found["videos"])} videos, {len(found["annotations"])} tracks')


if __name__ == '__main__':
    leave(run_tool(main))
