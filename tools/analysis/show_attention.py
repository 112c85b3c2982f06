"""Draw where a model looks: the points that deformable attention samples, sized by their weights.

Of ISDA, SOLQ and other deformable detectors the queries of the best instances, or those named; with
--part encoder what the token at a place of the image samples. Of DefVisTR the first clip of a
video: the decoder's maps, or with --part encoder what the tokens of an instance sample of all
frames.
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
    parser.add_argument('checkpoint', metavar='CKPT', help='weights that fit the model completely')
    parser.add_argument('source', metavar='SOURCE', help='image, folder or pattern; or a video')
    parser.add_argument('--out-dir', default='work_dirs/attention', help='folder for pictures')
    parser.add_argument(
        '--part', choices=('decoder', 'encoder'), default='decoder', help='default: decoder'
    )
    parser.add_argument('--layer', type=int, default=-1, help='from 0; -1 is the last (default)')
    parser.add_argument(
        '--query', type=int, nargs='+', default=[], metavar='N', help='queries; of videos instances'
    )
    parser.add_argument(
        '--best', type=int, default=3, metavar='N', help='best instances without --query (3)'
    )
    parser.add_argument(
        '--heads', type=int, nargs='+', default=[], metavar='N', help='which heads (all)'
    )
    parser.add_argument('--separate', action='store_true', help='a picture for each head')
    parser.add_argument(
        '--at', type=float, nargs=2, metavar=('X', 'Y'), help='place of the token of the encoder'
    )
    parser.add_argument(
        '--level', type=int, default=0, help='level, or frame of a video, of that token (0)'
    )
    add_device(parser)
    add_config_options(parser)
    add_trust_checkpoint(parser)
    return parser.parse_args()


def main() -> None:
    """Predict and draw."""
    args = parse_args()
    from isda_suite.compat.warning_filters import filter_known_warnings, quiet_imports
    from isda_suite.engine.config_file import parse_options, read_config

    filter_known_warnings()
    cfg = read_config(args.config, parse_options(args.cfg_options))
    with quiet_imports():
        from isda_suite.apis.model import load_model
        from isda_suite.apis.queries.attention import AttentionSettings, draw_attention

    settings = AttentionSettings(
        part=args.part,
        layer=args.layer,
        queries=tuple(args.query),
        num_best=args.best,
        heads=tuple(args.heads),
        at=None if args.at is None else (args.at[0], args.at[1]),
        level=args.level,
        separate=args.separate,
    )
    model = load_model(cfg, args.checkpoint, args.device, args.trust_checkpoint)
    for path in draw_attention(model, args.source, args.out_dir, settings):
        print(path)


if __name__ == '__main__':
    leave(run_tool(main))
