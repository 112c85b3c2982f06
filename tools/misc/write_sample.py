"""Write the generated sample data set: python tools/misc/write_sample.py [data/sample]."""

import argparse
import sys


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Write a generated sample data set.')
    parser.add_argument(
        'root',
        nargs='?',
        help='folder to make (default: data/sample, or data/sample_video for youtube_vis)',
    )
    parser.add_argument(
        '--format',
        choices=('coco', 'semantic', 'youtube_vis'),
        default='coco',
        help='instances in a COCO json, a label image beside each image, or videos with tracks '
        '(default: %(default)s)',
    )
    parser.add_argument('--num-train', type=int, help='default: 240 images or 24 videos')
    parser.add_argument('--num-val', type=int, help='default: 60 images or 8 videos')
    parser.add_argument('--seed', type=int, default=0, help='other scenes (default: 0)')
    args = parser.parse_args(argv)
    videos = args.format == 'youtube_vis'
    args.root = args.root or ('data/sample_video' if videos else 'data/sample')
    args.num_train = (24 if videos else 240) if args.num_train is None else args.num_train
    args.num_val = (8 if videos else 60) if args.num_val is None else args.num_val
    return args


def main(argv: list[str] | None = None) -> int:
    """Write the data set; nothing happens when it is there already."""
    args = parse_args(argv)
    from isda_suite.compat.warning_filters import quiet_imports

    with quiet_imports():
        from isda_suite.datasets.sample import write_sample_coco, write_sample_semantic
        from isda_suite.datasets.sample_video import write_sample_videos

    write = {
        'coco': write_sample_coco,
        'semantic': write_sample_semantic,
        'youtube_vis': write_sample_videos,
    }[args.format]
    try:
        root = write(args.root, args.num_train, args.num_val, seed=args.seed)
    except FileExistsError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    kind = 'videos' if args.format == 'youtube_vis' else 'images'
    print(f'{root}: {args.num_train} training and {args.num_val} validation {kind}')
    return 0


if __name__ == '__main__':
    from isda_suite.engine.exit_codes import leave, run_tool

    leave(run_tool(main))
