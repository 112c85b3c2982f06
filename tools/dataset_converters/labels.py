"""Turn labels of YOLO, Pascal VOC, LabelMe or CVAT into an annotation file in COCO format.

SRC is a folder of label files; of CVAT the annotations.xml of "CVAT for images 1.1". The result is
checked as every data set is. Exit codes: 0 done, 2 wrong command or path, 3 something is wrong with
the labels.

Example:
    python tools/dataset_converters/labels.py yolo data/mine/labels/train data/mine/train.json
"""

import argparse

from isda_suite.engine.exit_codes import leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = ('yolo', 'voc', 'labelme', 'cvat')
    parser.add_argument('format', metavar='FORMAT', choices=kinds, help=', '.join(kinds))
    parser.add_argument('src', metavar='SRC', help='folder of labels, or annotations.xml')
    parser.add_argument('dst', metavar='DST', help='annotation file to write (.json)')
    parser.add_argument('--images', metavar='DIR', help='folder of the images')
    parser.add_argument(
        '--classes', metavar='FILE', help='names in their order: one a line, or a data.yaml'
    )
    parser.add_argument(
        '--boxes-as-masks',
        action='store_true',
        help='take the box of an object that has no mask as its mask',
    )
    return parser.parse_args()


def main() -> int:
    """Convert, check and print."""
    args = parse_args()
    from isda_suite.compat.warning_filters import quiet_imports
    from isda_suite.engine.exit_codes import DONE, WRONG_DATA

    with quiet_imports():
        from isda_suite.apis.labels.importing import describe, import_labels

    result = import_labels(
        args.format, args.src, args.dst, args.images, args.classes, args.boxes_as_masks
    )
    print(describe(result))
    return WRONG_DATA if result.report.fatal else DONE


if __name__ == '__main__':
    leave(run_tool(main))
