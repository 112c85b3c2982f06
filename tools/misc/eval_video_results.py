"""Evaluate a results file of video instance segmentation.

    python tools/misc/eval_video_results.py RESULTS ANNOTATIONS

RESULTS is results.json or the zip with it; ANNOTATIONS a file in the form of YouTube-VIS. Prints
the official 12 numbers and a table of the classes.

Exit codes: 0 done, 2 wrong command, 3 wrong data, 1 anything else.
"""

import argparse

from isda_suite.engine.exit_codes import leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('results', help='results.json, or the zip with it')
    parser.add_argument('annotations', help='annotation file in the form of YouTube-VIS')
    return parser.parse_args()


def main() -> None:
    """Evaluate."""
    args = parse_args()
    from isda_suite.compat.warning_filters import quiet_imports

    with quiet_imports():
        from isda_suite.apis.videos.evaluation import evaluate_video_results

    found = evaluate_video_results(args.results, args.annotations)
    print(found.official_lines())
    print(f'\nby class, in percent:\n{found.class_table()}')


if __name__ == '__main__':
    leave(run_tool(main))
