"""Say what is installed, what it runs on, and what is wrong with the installation.

Exit codes: 0 it works, 1 something is broken; the last lines say what to do.
"""

import argparse
import json

from isda_suite.engine.exit_codes import DONE, FAILED, leave, run_tool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--json', action='store_true', help='everything, as JSON')
    return parser.parse_args()


def main() -> int:
    """Examine and print."""
    args = parse_args()
    from isda_suite.apis.doctor import describe, examine

    report = examine()
    print(json.dumps(report, indent=2) if args.json else describe(report))
    return DONE if report['works'] else FAILED


if __name__ == '__main__':
    leave(run_tool(main))
