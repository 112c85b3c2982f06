#!/usr/bin/env python
"""Segment pictures and rasters of any size into class maps.

A picture goes through the network in one pass, or in overlapping tiles if it does not fit into the
memory allowed. GeoTIFFs keep their georeference (pip install isda_suite[raster]).

Example:
    python tools/segment.py CONFIG CKPT scene.tif --out-dir maps --memory-mb 4000 --overlay
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
    parser.add_argument('checkpoint', metavar='CKPT', help='its weights')
    parser.add_argument(
        'images', metavar='IMAGE', nargs='+', help='files, folders or patterns of images'
    )
    parser.add_argument('--out-dir', default='class_maps', help='default: class_maps')
    parser.add_argument(
        '--memory-mb',
        type=int,
        metavar='N',
        help='memory of the process, or of tensors on the GPU (default: 80 %% of what is free)',
    )
    parser.add_argument(
        '--tile', type=int, metavar='N', help='side of tiles (default: by the memory, or no tiles)'
    )
    parser.add_argument(
        '--overlap', type=int, metavar='N', help='of neighbouring tiles (default: N / 8)'
    )
    parser.add_argument(
        '--exact',
        action='store_true',
        help='tiles with the classes of one pass (ISDNet): slower, takes disk for temporary files',
    )
    parser.add_argument(
        '--scale', type=float, default=1.0, help='of the input of the network (default: 1)'
    )
    parser.add_argument(
        '--bands', type=int, nargs=3, metavar='N', help='bands of rasters: red, green, blue'
    )
    parser.add_argument(
        '--stretch',
        type=float,
        nargs=2,
        metavar='P',
        help='percentiles of rasters that become black and white, such as 2 98',
    )
    parser.add_argument('--overlay', action='store_true', help='draw the classes over the images')
    add_device(parser)
    add_config_options(parser)
    add_trust_checkpoint(parser)
    args = parser.parse_args()
    if args.stretch and not 0 <= args.stretch[0] < args.stretch[1] <= 100:
        parser.error(f'--stretch must be two rising percentiles, got {args.stretch}')
    return args


def main() -> None:
    """Segment, and say how."""
    args = parse_args()
    from isda_suite.compat.warning_filters import filter_known_warnings, quiet_imports

    filter_known_warnings()
    with quiet_imports():
        from isda_suite.apis.segment import BandChoice, SegmentSettings, name_results
        from isda_suite.apis.segmenter import Segmenter
        from isda_suite.engine.config_file import parse_options

    bands = BandChoice(
        bands=None if args.bands is None else tuple(args.bands),
        stretch=None if args.stretch is None else tuple(args.stretch),
    )
    settings = SegmentSettings(
        scale=args.scale,
        tile=args.tile,
        overlap=args.overlap,
        memory_mb=args.memory_mb,
        exact=args.exact,
        bands=bands,
    )
    name_results(args.images, args.out_dir)  # a wrong path should not take seconds
    segmenter = Segmenter(
        args.config,
        args.checkpoint,
        device=args.device,
        cfg_options=parse_options(args.cfg_options),
        tiles=settings,
        trust=args.trust_checkpoint,
    )
    for done in segmenter.write_class_maps(args.images, args.out_dir, args.overlay):
        print(done.describe())


if __name__ == '__main__':
    leave(run_tool(main))
