#!/usr/bin/env python
"""Segment and track everything in a video of any length, and draw it.

SOURCE is a video file, the address of one (https://…), a folder of frames, a pattern, or the index
of a camera (0). Ctrl-C ends the video early: what was seen up to then is finished and written.

Example:
    python demo/video_demo.py CONFIG CKPT street.mp4 --out street_tracks.mp4
"""

import argparse
from pathlib import Path
from typing import Any

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
        'source', metavar='SOURCE', help='file, address, folder, pattern or camera index'
    )
    parser.add_argument(
        '--out',
        metavar='PATH',
        help='a video (.mp4, .mov, .mkv, .avi), or a folder for the frames (no suffix)',
    )
    parser.add_argument(
        '--results',
        metavar='JSON',
        help='write the tracks in the format of YouTube-VIS, and beside it the zip to hand in',
    )
    parser.add_argument('--video-id', type=int, default=1, help='of the video there (default: 1)')
    parser.add_argument('--show', action='store_true', help='show the frames in a window')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='draw what scores at least this (default: 0.3)'
    )
    parser.add_argument('--clip-len', type=int, help='frames of a clip (default: the model says)')
    parser.add_argument(
        '--overlap', type=int, help='frames that clips share (default: as the test data, or half)'
    )
    parser.add_argument('--every', type=int, default=1, help='take every n-th frame (default: 1)')
    parser.add_argument('--max-frames', type=int, help='end after this many (default: never)')
    parser.add_argument(
        '--fps', type=float, help='of the written video (default: as the source, or 6)'
    )
    add_device(parser)
    add_config_options(parser)
    add_trust_checkpoint(parser)
    args = parser.parse_args()
    if not 0 <= args.score_thr <= 1:
        parser.error(f'--score-thr must lie between 0 and 1, got {args.score_thr}')
    for name in ('clip_len', 'every', 'max_frames', 'fps'):
        if getattr(args, name) is not None and getattr(args, name) <= 0:
            parser.error(f'--{name.replace("_", "-")} must be above 0, got {getattr(args, name)}')
    if args.results and not args.results.endswith('.json'):
        parser.error(f'--results must end with .json, got {args.results}')
    if not (args.out or args.results or args.show):
        parser.error('nothing to do: give --out, --results or --show')
    return args


def main() -> None:
    """Predict, draw, write, and say how much was found."""
    args = parse_args()
    from isda_suite.compat.warning_filters import filter_known_warnings, quiet_imports

    filter_known_warnings()
    with quiet_imports():
        from isda_suite.apis.named_inputs import opened_video
        from isda_suite.apis.videos.writer import check_out

    # Before the model: a wrong path should not take seconds.
    check_out(args.out, args.source)
    with opened_video(args.source, args.every, args.max_frames) as video:
        _track(args, video)


def _track(args: argparse.Namespace, video: Any) -> None:
    from isda_suite.compat.warning_filters import quiet_imports

    with quiet_imports():
        from isda_suite.apis.segmenter import Segmenter
        from isda_suite.apis.videos.pictures import draw_video
        from isda_suite.apis.videos.results_file import write_results
        from isda_suite.apis.videos.source import stopped_by_interrupt
        from isda_suite.engine.config_file import parse_options

    segmenter = Segmenter(
        args.config,
        args.checkpoint,
        device=args.device,
        cfg_options=parse_options(args.cfg_options),
        trust=args.trust_checkpoint,
    )
    prediction = segmenter.track(
        video, clip_len=args.clip_len, overlap=args.overlap, keep_tracks=bool(args.results)
    )
    model = segmenter.model
    with stopped_by_interrupt(video):
        seen = draw_video(model, prediction, args.out, args.score_thr, args.fps, args.show)
    for note in video.notes:
        print(f'note: {note}')
    print(
        f'{prediction.num_frames} frames, {seen} tracks with a score of at least {args.score_thr}'
    )
    if args.out:
        print(f'wrote {Path(args.out).expanduser()}')
    if args.results:
        results = prediction.results(args.video_id)
        written = write_results(results, Path(args.results).expanduser().with_suffix(''))
        print(*(f'wrote {path}' for path in written), sep='\n')


if __name__ == '__main__':
    leave(run_tool(main))
