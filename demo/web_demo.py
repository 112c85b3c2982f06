#!/usr/bin/env python
"""Try models in the browser: drop an image or a video, see the masks, take the results home.

Example:
    python demo/web_demo.py --model isda_sample --weights isda.pth

Without --model the page offers every model of the zoo that has weights.
"""

import argparse

from isda_suite.engine.arguments import add_device, add_trust_checkpoint
from isda_suite.engine.exit_codes import expect_native_threads, leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--model',
        action='append',
        default=[],
        metavar='CONFIG',
        help='configuration to offer, a file or the name of a shipped one; may be repeated',
    )
    parser.add_argument(
        '--weights',
        action='append',
        default=[],
        metavar='CKPT',
        help='weights of a --model, in the same order: a file, an address, a name of the zoo, '
        '"random" for an untrained model (default: the weights of the zoo)',
    )
    parser.add_argument('--host', default='127.0.0.1', help='default: 127.0.0.1, this machine only')
    parser.add_argument('--port', type=int, help='default: the first free one from 7860 on')
    parser.add_argument(
        '--share', action='store_true', help='get a public address from the makers of gradio'
    )
    parser.add_argument(
        '--min-score', type=float, default=0.05, help='lower end of the slider (default: 0.05)'
    )
    parser.add_argument(
        '--max-megapixels', type=float, default=50, help='largest image (default: 50)'
    )
    parser.add_argument('--max-frames', type=int, default=300, help='longest video (default: 300)')
    parser.add_argument('--max-file-mb', type=float, default=200, help='default: 200')
    parser.add_argument(
        '--check', action='store_true', help='load every model, say what it is, and end'
    )
    add_device(parser)
    add_trust_checkpoint(parser)
    args = parser.parse_args()
    if not 0 <= args.min_score < 1:
        parser.error(f'--min-score must lie between 0 and 1, got {args.min_score}')
    if args.port is not None and not 0 < args.port < 65536:
        parser.error(f'--port must lie between 1 and 65535, got {args.port}')
    return args


def main() -> None:
    """Serve the page until it is interrupted, or only check the models."""
    args = parse_args()
    from isda_suite.apis.web_demo.server import (
        DemoSettings,
        describe_models,
        require_gradio,
        serve,
    )

    require_gradio()  # what is missing should not take the seconds of the stack to be said
    from isda_suite.compat.warning_filters import filter_known_warnings

    filter_known_warnings()
    settings = DemoSettings(
        models=args.model,
        weights=args.weights,
        device=args.device,
        trust=args.trust_checkpoint,
        min_score=args.min_score,
        host=args.host,
        port=args.port,
        share=args.share,
        limits=dict(
            max_megapixels=args.max_megapixels,
            max_frames=args.max_frames,
            max_file_mb=args.max_file_mb,
        ),
    )
    if args.check:
        print(*describe_models(settings), sep='\n')
    else:
        try:
            serve(settings)
        finally:
            expect_native_threads()  # a visitor's model may be running


if __name__ == '__main__':
    leave(run_tool(main))
