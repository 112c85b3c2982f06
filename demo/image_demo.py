#!/usr/bin/env python
"""Predict images, from files, folders, patterns, addresses or videos, and draw the results.

Example:
    python demo/image_demo.py demo/images configs/isda/isda_r50_3x_coco.py isda.pth
    python demo/image_demo.py https://example.org/photo.jpg isda_r50_3x_coco isda.pth
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
    parser.add_argument(
        'images',
        metavar='INPUT',
        help='an image or a video: a file, a folder, a pattern or an address (https://…)',
    )
    add_config(parser)
    parser.add_argument(
        'checkpoint',
        metavar='CKPT',
        nargs='?',
        help='its weights: a file, an address, a name of the zoo (default: the weights of the zoo)',
    )
    parser.add_argument('--out-dir', default='demo_results', help='default: demo_results')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='leave out what scores below (default: 0.3)'
    )
    parser.add_argument('--batch-size', type=int, default=1, help='images at a time (default: 1)')
    add_device(parser)
    add_config_options(parser)
    add_trust_checkpoint(parser)
    args = parser.parse_args()
    if not 0 <= args.score_thr <= 1:
        parser.error(f'--score-thr must lie between 0 and 1, got {args.score_thr}')
    if args.batch_size < 1:
        parser.error(f'--batch-size must be at least 1, got {args.batch_size}')
    return args


def main() -> None:
    """Predict, draw, and say how much was found."""
    args = parse_args()
    from isda_suite.compat.warning_filters import filter_known_warnings, quiet_imports

    filter_known_warnings()
    with quiet_imports():
        from isda_suite.apis.named_inputs import require_input
        from isda_suite.apis.results.picture_folder import PictureFolder
        from isda_suite.apis.segmenter import Segmenter
        from isda_suite.engine.config_file import parse_options

    # Before the model: a wrong path should not take seconds.
    pictures = PictureFolder(args.out_dir, require_input(args.images))
    segmenter = Segmenter(
        args.config,
        args.checkpoint,
        device=args.device,
        batch_size=args.batch_size,
        score_thr=args.score_thr,
        cfg_options=parse_options(args.cfg_options),
        trust=args.trust_checkpoint,
    )
    written, found = 0, 0
    for result in segmenter.stream(args.images, progress=True):
        pictures.write(result)
        found += len(result)
        written += 1
    if segmenter.task != 'semantic':
        what = 'instances' if segmenter.task == 'instance' else 'tracks'
        hint = '' if found else ': a lower --score-thr shows more'
        print(f'{found} {what} with a score of at least {args.score_thr}{hint}')
    kind = 'video' if segmenter.task == 'video' else 'picture'
    print(f'wrote {written} {kind}{"" if written == 1 else "s"} to {pictures.folder}')


if __name__ == '__main__':
    leave(run_tool(main))
