"""``python -m isda_suite COMMAND ...``."""

import sys

from isda_suite.cli import main

if __name__ == '__main__':
    sys.exit(main())
