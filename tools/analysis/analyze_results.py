"""Say what goes wrong in a results file: errors by kind and what each costs.

Results are COCO's list, a results file of YouTube-VIS, or what `test --out X.json` wrote; nothing
is predicted. Kinds of errors: wrong place, wrong class, both, duplicate, background, missed (TIDE,
arXiv:2008.08115).
"""

import argparse
from pathlib import Path

from isda_suite.engine.exit_codes import leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'results', metavar='RESULTS', help='the results, a .json (or .zip of videos)'
    )
    parser.add_argument('annotations', metavar='ANNOTATIONS', help='COCO, LVIS or YouTube-VIS json')
    parser.add_argument(
        '--kind', choices=('segm', 'bbox'), help='compare masks or boxes (masks if there are some)'
    )
    parser.add_argument('--out', metavar='HTML', help='write curves, confusions, classes, pictures')
    parser.add_argument('--images', metavar='DIR', help='folder of the images, to draw some')
    parser.add_argument(
        '--num', type=int, default=4, help='how many of the best and of the worst to draw (4)'
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='draw and confuse from this score on (0.3)'
    )
    args = parser.parse_args()
    if args.num < 0:
        parser.error(f'--num must not be negative, got {args.num}')
    if not 0 <= args.score_thr <= 1:
        parser.error(f'--score-thr must lie between 0 and 1, got {args.score_thr}')
    return args


def main() -> None:
    """Analyse, print, write."""
    args = parse_args()
    from isda_suite.compat.warning_filters import filter_known_warnings, quiet_imports

    filter_known_warnings()
    with quiet_imports():
        from isda_suite.apis.reports.error_analysis import analyse_results, write_analysis

    found = analyse_results(
        args.results,
        args.annotations,
        kind=args.kind,
        images=args.images,
        score_thr=args.score_thr,
        num_shown=args.num if args.out else 0,
    )
    print(found.text())
    if args.out:
        write_analysis(found, args.out, Path(args.results).name)
        print(f'wrote {args.out}')


if __name__ == '__main__':
    leave(run_tool(main))
