#!/usr/bin/env python
"""Draw how random boxes become instances: a strip and an animation of every sampling step.

Example:
    python demo/diffusion_demo.py a.jpg configs/idip/idip_r50_2xb8-90k_coco.py idip.pth
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
        '--score-thr', type=float, default=0.3, help='grey below this score (default: 0.3)'
    )
    add_device(parser)
    add_config_options(parser)
    add_trust_checkpoint(parser)
    args = parser.parse_args()
    if not 0 <= args.score_thr <= 1:
        parser.error(f'--score-thr must lie between 0 and 1, got {args.score_thr}')
    return args


def main() -> None:
    """Sample and draw."""
    args = parse_args()
    from isda_suite.compat.warning_filters import filter_known_warnings, quiet_imports

    filter_known_warnings()
    with quiet_imports():
        from isda_suite.apis.inference import find_images, load_model
        from isda_suite.apis.queries.diffusion import draw_diffusion
        from isda_suite.engine.config_file import parse_options, read_config

    images = find_images(args.images)  # before the model: a wrong path should not take seconds
    cfg = read_config(args.config, parse_options(args.cfg_options))
    model = load_model(cfg, args.checkpoint, args.device, args.trust_checkpoint)
    names: set[str] = set()
    for number, image in enumerate(images):
        name = Path(str(image)).stem
        name = name if name not in names else f'{number}_{name}'
        names.add(name)
        strip, animation = draw_diffusion(model, image, args.out_dir, args.score_thr, name)
        print(f'wrote {strip} and {animation}')


if __name__ == '__main__':
    leave(run_tool(main))
