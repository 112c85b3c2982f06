"""Write the folders of Inria Aerial that the configurations read from the official download.

SRC is AerialImageDataset: train/images/NAME.tif and train/gt/NAME.tif (0 and 255). DST gets
imgs/{train,val,test}/NAME_sat.tif and labels/{train,val,test}/NAME_mask.png (0 and 1), by the
published lists. A second run does only what is missing. Exit codes: 0 done, 2 wrong command or
path, 3 something is wrong with the files.
"""

import argparse

from isda_suite.engine.arguments import add_layout_options
from isda_suite.engine.exit_codes import leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', metavar='SRC', help='the folder AerialImageDataset')
    parser.add_argument(
        'dst', metavar='DST', nargs='?', default='data/inria', help='default: data/inria'
    )
    add_layout_options(parser)
    return parser.parse_args()


def main() -> int:
    """Convert; print counts and everything that is wrong."""
    args = parse_args()
    from isda_suite.compat.warning_filters import quiet_imports
    from isda_suite.engine.exit_codes import DONE, WRONG_DATA

    with quiet_imports():
        from isda_suite.apis.downloads.dataset_layouts import INRIA_AERIAL, convert_layout

    report = convert_layout(
        INRIA_AERIAL, args.src, args.dst, args.lists, args.images == 'copy', args.workers
    )
    print(report.table())
    return WRONG_DATA if report.fatal else DONE


if __name__ == '__main__':
    leave(run_tool(main))
