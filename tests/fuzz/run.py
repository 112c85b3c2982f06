"""Feed a target with bytes that reach new code, until one fails or the time is over.

    pip install atheris
    python -m tests.fuzz.run coco --seconds 600

Bytes that fail are written to the working directory as `crash-HASH`. Mend the reader and keep them
in `tests/fuzz/seeds/TARGET/`, under a name that says what was wrong.
"""

import argparse
import gc
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=['isda_suite']):
    from tests.fuzz.targets import TARGETS, examples

SEEDS = Path(__file__).parent / 'seeds'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('target', choices=TARGETS)
    parser.add_argument('--seconds', type=int, default=600)
    arguments = parser.parse_args()
    target = TARGETS[arguments.target]
    with tempfile.TemporaryDirectory() as name:
        work, corpus = Path(name) / 'work', Path(name) / 'corpus'
        work.mkdir()
        corpus.mkdir()
        for index, content in enumerate(examples(arguments.target, work)):
            target(content, work)  # what is loaded on the first use is no matter of the target
            (corpus / f'example-{index}').write_bytes(content)
        gc.freeze()  # readers collect garbage, and would look through every module each time
        options = [
            f'-max_total_time={arguments.seconds}',
            '-timeout=30',
            '-rss_limit_mb=6000',
            '-max_len=4096',
            '-print_final_stats=1',
        ]
        folders = [corpus, SEEDS / arguments.target]
        places = [str(folder) for folder in folders if folder.is_dir()]
        atheris.Setup([sys.argv[0], *options, *places], lambda data: target(data, work))
        atheris.Fuzz()


if __name__ == '__main__':
    main()
