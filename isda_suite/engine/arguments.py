"""Arguments that several tools take, defined once.

Nothing heavy is imported here, so that ``--help`` and wrong arguments are answered at once.
"""

import argparse
import os


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the argument CONFIG."""
    parser.add_argument(
        'config', metavar='CONFIG', help='file, or bare name of a shipped configuration'
    )


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``, for :func:`.config_file.parse_options`."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        metavar='KEY=VALUE',
        help='change values of the configuration; +KEY=VALUE adds one; lists as KEY=[a,b]',
    )


def add_launcher(parser: argparse.ArgumentParser, scripts: str) -> None:
    """Add what the scripts for several processes hand over.

    Args:
        parser: The tool's parser.
        scripts: Names of the scripts that set it, for the help.
    """
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help=f'who started the processes ({scripts} set it)',
    )
    # Given by torch.distributed.launch, which old scripts call; torchrun sets the variable.
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)
    # The name of --cfg-options in mmdet 2.
    parser.add_argument('--options', nargs='+', action='extend', help=argparse.SUPPRESS)


def add_trust_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add ``--trust-checkpoint``."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='let checkpoints run code while they are read; only for files of a known origin',
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:N (default: auto)')


def add_layout_options(parser: argparse.ArgumentParser) -> None:
    """Add what the converters of data sets take besides source and destination."""
    parser.add_argument(
        '--images',
        choices=['link', 'copy'],
        default='link',
        help='link: symbolic links, SRC must stay where it is (default); copy: files of their own',
    )
    parser.add_argument(
        '--lists',
        metavar='DIR',
        help='folder with train.txt, val.txt, test.txt in place of the published lists',
    )
    parser.add_argument(
        '--workers',
        type=_positive,
        default=os.cpu_count() or 1,
        metavar='N',
        help='processes that work at the same time (default: one a core)',
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'must be at least 1, got {value}')
    return value
