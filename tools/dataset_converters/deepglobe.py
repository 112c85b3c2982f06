"""Write the folders of DeepGlobe that the configurations read from the official training set.

SRC holds ID_sat.jpg and ID_mask.png (RGB). DST gets img_dir/{train,val,test}/ID_sat.jpg and
rgb2id/{train,val,test}/ID_mask.png with class ids, by the published lists. A second run does only
what is missing. Exit codes: 0 done, 2 wrong command or path, 3 something is wrong with the files.
"""

import argparse

from isda_suite.engine.arguments import add_layout_options
from isda_suite.engine.exit_codes import leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', metavar='SRC', help='folder of the official training set')
    parser.add_argument(
        'dst', metavar='DST', nargs='?', default='data/deepglobe', help='default: data/deepglobe'
    )
    add_layout_options(parser)
    return parser.parse_args()


def main() -> int:
    """Convert; print counts and everything that is wrong."""
    args = parse_args()
    from isda_suite.compat.warning_filters import quiet_imports
    from isda_suite.engine.exit_codes import DONE, WRONG_DATA

    with quiet_imports():
        from isda_suite.apis.downloads.dataset_layouts import DEEPGLOBE, convert_layout

    report = convert_layout(
        DEEPGLOBE, args.src, args.dst, args.lists, args.images == 'copy', args.workers
    )
    print(report.table())
    return WRONG_DATA if report.fatal else DONE


if __name__ == '__main__':
    leave(run_tool(main))
