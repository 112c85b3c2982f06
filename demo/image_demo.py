#!/usr/bin/env python
"""Predict one image or a folder of images and write pictures with the results.

Example:
    python demo/image_demo.py demo/images configs/isda/isda_r50_3x_coco.py isda.pth
"""

import argparse
from pathlib import Path

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
    parser.add_argument('images', metavar='IMAGE_OR_FOLDER', help='a file, a folder or a pattern')
    add_config(parser)
    parser.add_argument('checkpoint', metavar='CKPT', help='its weights')
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
        from isda_suite.apis.inference import find_images
        from isda_suite.apis.segmenter import Segmenter
        from isda_suite.engine.config_file import parse_options
        from isda_suite.engine.errors import ConfigError
        from isda_suite.visualization.pictures import save_picture

    out_dir = Path(args.out_dir).expanduser()

    images = find_images(args.images)  # before the model: a wrong path should not take seconds
    if any(isinstance(i, Path) and i.parent.resolve() == out_dir.resolve() for i in images):
        raise ConfigError(f'--out-dir {out_dir} holds the images: the pictures would replace them')
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
    names: set[str] = set()  # images of two folders may share theirs
    for result in segmenter.stream(images, progress=True):
        name = result.source.name
        name = name if name not in names else f'{written}_{name}'
        names.add(name)
        save_picture(out_dir / name, result.plot())
        found += len(result) if segmenter.task == 'instance' else 0
        written += 1
    hint = '' if found or segmenter.task != 'instance' else ': a lower --score-thr shows more'
    print(f'{found} instances with a score of at least {args.score_thr}{hint}')
    print(f'wrote {written} pictures to {out_dir}')


if __name__ == '__main__':
    leave(run_tool(main))
