"""Say what the operators run on, or compile them: ``python -m isda_suite.ops [build]``."""

import argparse
import sys

from .build import build
from .information import info


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='python -m isda_suite.ops', description=__doc__)
    parser.add_argument(
        'command', nargs='?', choices=['info', 'build'], default='info', help='default: info'
    )
    parser.add_argument('--verbose', action='store_true', help="show the compiler's command lines")
    return parser.parse_args()


def _print_info() -> None:
    report = info()
    for name, devices in report['ops'].items():
        for device, kind in devices.items():
            print(f'{name:20} {device:5} {kind}')
    rows = {
        'library': report['library'] or f'none: {report["reason"]}',
        'CPU variant': report['cpu_isa'] or '-',
        'CUDA archs': ', '.join(report['cuda_archs']) or f'none: {report["cuda_reason"]}',
        'torch': f'{report["torch"]} (library: {report["built_for_torch"] or "-"})',
    }
    for name, text in rows.items():
        print(f'{name:20} {text}')


def main() -> int:
    """Run the command line; return the exit code."""
    arguments = _parse()
    if arguments.command == 'info':
        _print_info()
        return 0
    try:
        print(build(verbose=arguments.verbose))
    except (RuntimeError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
