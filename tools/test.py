"""Evaluate a checkpoint on the test data of a configuration.

Exit codes: 0 done, 2 wrong command, configuration or checkpoint, 3 wrong data, 1 anything else.
"""

import argparse
import os

from isda_suite.engine.arguments import (
    add_config,
    add_config_options,
    add_launcher,
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
    parser.add_argument('--work-dir', help='folder for logs (work_dirs/NAME)')
    parser.add_argument(
        '--eval',
        nargs='+',
        metavar='WHAT',
        help='evaluate this instead of what the configuration says: segm bbox for instances, '
        'segm for videos, mIoU mDice mFscore for semantic data',
    )
    parser.add_argument('--out', metavar='FILE', help='write the predictions to a .json or .pkl')
    parser.add_argument(
        '--format-only', action='store_true', help='write result files, compute nothing'
    )
    parser.add_argument(
        '--out-dir',
        metavar='DIR',
        help='write a confusion matrix and the images, the worst first, of semantic data',
    )
    parser.add_argument(
        '--report',
        default='auto',
        metavar='FILE',
        help='the HTML report (report.html in the folder for logs), or none',
    )
    parser.add_argument(
        '--report-images',
        type=int,
        default=4,
        metavar='N',
        help='how many of the best and of the worst images the report shows (4)',
    )
    parser.add_argument('--show-dir', metavar='DIR', help='draw the predictions into this folder')
    parser.add_argument(
        '--show-score-thr', type=float, default=0.3, help='draw instances from this score on (0.3)'
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation as the configuration defines it; by default a mirrored view',
    )
    add_config_options(parser)
    add_launcher(parser, 'dist_test.sh and slurm_test.sh')
    add_trust_checkpoint(parser)
    return parser.parse_args()


def main() -> None:
    """Evaluate."""
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    from isda_suite.apis.test import evaluate
    from isda_suite.engine.config_file import parse_options

    evaluate(
        args.config,
        args.checkpoint,
        eval=args.eval,
        out=args.out,
        format_only=args.format_only,
        show_dir=args.show_dir,
        show_score_thr=args.show_score_thr,
        tta=args.tta,
        cfg_options=parse_options(args.cfg_options, args.options),
        launcher=args.launcher,
        trust_checkpoint=args.trust_checkpoint,
        work_dir=args.work_dir,
        out_dir=args.out_dir,
        report=None if args.report == 'none' else args.report,
        report_images=args.report_images,
    )


if __name__ == '__main__':
    leave(run_tool(main))
