"""Download a public data set into the folders the configurations expect.

Interrupted downloads go on where they stopped. Exit codes: 0 everything is there, 1 a file could
not be fetched, checked or unpacked, 2 wrong command.
"""

import argparse
import sys
from pathlib import Path

from isda_suite.engine.exit_codes import DONE, FAILED, leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    from isda_suite.apis.downloads.dataset_sources import SOURCES

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--dataset-name',
        default='coco2017',
        choices=sorted(SOURCES),
        metavar='NAME',
        help=f'one of {", ".join(sorted(SOURCES))} (default: coco2017)',
    )
    parser.add_argument('--save-dir', help='folder (default: the one its configurations use)')
    parser.add_argument('--unzip', action='store_true', help='unpack archives')
    parser.add_argument('--delete', action='store_true', help='remove archives once unpacked')
    parser.add_argument('--threads', type=int, default=4, help='files fetched at the same time')
    # For tests and local mirrors: the same file names below another address.
    parser.add_argument('--allow-http', action='store_true', help=argparse.SUPPRESS)
    parser.add_argument('--base-url', help=argparse.SUPPRESS)
    parser.add_argument('--timeout-s', type=float, default=60.0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.threads < 1:
        parser.error(f'--threads must be at least 1, got {args.threads}')
    if args.delete and not args.unzip:
        parser.error('--delete removes archives once unpacked: it needs --unzip')
    return args


def main() -> int:
    """Download; name every file that failed."""
    args = parse_args()
    from dataclasses import replace

    from isda_suite.apis.downloads.dataset_sources import SOURCES
    from isda_suite.apis.downloads.download import DownloadOptions, download_all
    from isda_suite.apis.downloads.transfer import DownloadError, TransferOptions

    dataset = SOURCES[args.dataset_name]
    sources = dataset.files
    if args.base_url:
        sources = tuple(
            replace(one, url=f'{args.base_url.rstrip("/")}/{one.file_name}') for one in sources
        )
    folder = Path(args.save_dir or dataset.save_dir)
    options = DownloadOptions(
        unzip=args.unzip,
        delete=args.delete,
        threads=args.threads,
        transfer=TransferOptions(allow_http=args.allow_http, timeout_s=args.timeout_s),
    )
    try:
        errors = download_all(sources, folder, options)
    except DownloadError as error:
        print(f'error: {error}', file=sys.stderr)
        return FAILED
    for name, error in errors.items():
        print(f'failed: {name}: {error}', file=sys.stderr)
    print(
        f'{len(sources) - len(errors)} of {len(sources)} files of {args.dataset_name} in {folder}'
    )
    return FAILED if errors else DONE


if __name__ == '__main__':
    leave(run_tool(main))
