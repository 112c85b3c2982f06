"""Say what the operators run on, or compile them: ``python -m isda_suite.ops [build]``."""

import argparse
import json
import sys
from typing import Any

from .build import build
from .information import info


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='python -m isda_suite.ops', description=__doc__)
    parser.add_argument(
        'command', nargs='?', choices=['info', 'build'], default='info', help='default: info'
    )
    parser.add_argument('--json', action='store_true', help='with info: everything, as JSON')
    parser.add_argument('--verbose', action='store_true', help="show the compiler's command lines")
    return parser.parse_args()


def _print_info(report: dict[str, Any]) -> None:
    variants = {'cpu': report['cpu_isa'], 'cuda': report['cuda_arch']}
    for name, devices in report['ops'].items():
        for device, kind in devices.items():
            variant = variants[device] if kind == 'compiled' else None
            why = report['slower'][name][device]
            print(
                f'{name:20} {device:5} {kind}'
                + (f' ({variant})' if variant else '')
                + (f': {why}' if why else '')
            )
    for name, text in _rows(report).items():
        print(f'{name:20} {text}')


def _rows(report: dict[str, Any]) -> dict[str, str]:
    compiler = report['compiler'] or '-'
    gcc = 'gcc ' if compiler[:1].isdigit() else ''  # others write their name themselves
    toolkit = f', CUDA {report["cuda_toolkit"]}' if report['cuda_toolkit'] else ''
    return {
        'library': report['library'] or f'none: {report["reason"]}',
        'CPU variant': _with_reason(report['cpu_isa'], report['cpu_reason']),
        'CUDA archs': _with_reason(', '.join(report['cuda_archs']), report['cuda_reason']),
        'GPU': _with_reason(report['gpu'], report['gpu_reason']),
        'torch': f'{report["torch"]} (library: {report["built_for_torch"] or "-"})',
        'compiler': f'{gcc}{compiler}{toolkit}',
    }


def _with_reason(found: str | None, reason: str | None) -> str:
    return (found or 'none') + (f': {reason}' if reason else '')


def main() -> int:
    """Run the command line; return the exit code."""
    arguments = _parse()
    try:
        if arguments.command == 'build':
            print(build(verbose=arguments.verbose))
        elif arguments.json:
            print(json.dumps(info(), indent=2))
        else:
            _print_info(info())
    except (RuntimeError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
