"""One command for every tool: ``isda COMMAND ARGUMENTS``, ``python -m isda_suite COMMAND …``."""

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from isda_suite.engine.exit_codes import DONE, WRONG_COMMAND
from isda_suite.resources import resource_root

_PROGRAM = 'python -m isda_suite'
_SCRIPTS = ('isda', 'isda-suite')  # as in pyproject.toml
# Command, its script, and what it does. The scripts are the ones of the repository; a wheel
# carries copies.
_COMMANDS: dict[str, tuple[str, str]] = {
    'train': ('tools/train.py', 'train a model from a configuration'),
    'test': ('tools/test.py', 'evaluate a checkpoint'),
    'eval-video': (
        'tools/misc/eval_video_results.py',
        'evaluate a results file of video instance segmentation',
    ),
    'predict': ('demo/image_demo.py', 'run a model on images'),
    'watch': ('demo/diffusion_demo.py', 'draw how random boxes become instances (IDIP)'),
    'responses': (
        'tools/misc/show_responses.py',
        'show what queries answer on their own and on other images',
    ),
    'predict-video': ('demo/video_demo.py', 'segment and track what is in a video'),
    'demo': ('demo/web_demo.py', 'try models in the browser: images, videos, sliders, downloads'),
    'segment': ('tools/segment.py', 'segment images and rasters of any size'),
    'check-data': ('tools/check_dataset.py', 'find everything wrong in a data set'),
    'browse': ('tools/browse_dataset.py', 'draw what the model gets to see in training'),
    'analyze': ('tools/analysis/analyze_results.py', 'say what goes wrong in a results file'),
    'attention': ('tools/analysis/show_attention.py', 'draw where a model looks'),
    'plot': ('tools/analysis/plot_logs.py', 'draw what runs have logged'),
    'count': ('tools/analysis/count_flops.py', 'count parameters and multiply-adds'),
    'convert': ('tools/convert_checkpoint.py', 'convert a checkpoint of other code'),
    'publish': ('tools/publish_checkpoint.py', 'make files of trained weights to give away'),
    'export': ('tools/export_model.py', 'write a model as ONNX or torch.export, and check it'),
    'fps': ('tools/fps_test.py', 'measure speed and memory'),
    'print-config': ('tools/print_config.py', 'show a configuration with its bases merged'),
    'download': ('tools/misc/download_dataset.py', 'download a data set'),
    'prepare-deepglobe': (
        'tools/dataset_converters/deepglobe.py',
        'write the folders of DeepGlobe from its download',
    ),
    'prepare-inria': (
        'tools/dataset_converters/inria_aerial.py',
        'write the folders of Inria Aerial from its download',
    ),
    'import-labels': (
        'tools/dataset_converters/labels.py',
        'turn labels of YOLO, VOC, LabelMe or CVAT into COCO format',
    ),
    'write-sample': ('tools/misc/write_sample.py', 'write the built-in data set'),
    'sample-demo': ('demo/sample_demo.py', 'train, evaluate and draw on the built-in data set'),
    'fit': ('tools/fit.py', 'estimate the memory of a training or a test'),
    'zoo': ('tools/zoo.py', 'list the models of the package, fetch their weights'),
    'doctor': ('tools/doctor.py', 'say what is installed and what is wrong with it'),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script of a command with the remaining arguments.

    Args:
        arguments: Command and its arguments; None takes those of the process.

    Returns:
        The exit code.
    """
    command, *rest = list(sys.argv[1:] if arguments is None else arguments) or ['--help']
    if command in ('-h', '--help', 'help'):
        print(_help())
        return DONE
    if command == '--version':
        from isda_suite import __version__

        print(__version__)
        return DONE
    if command not in _COMMANDS:
        near = difflib.get_close_matches(command, _COMMANDS, n=1)
        hint = f', did you mean {near[0]!r}?' if near else ''
        print(f'error: unknown command {command!r}{hint}\n\n{_help()}', file=sys.stderr)
        return WRONG_COMMAND
    return _run(command, rest)


def _run(command: str, arguments: list[str]) -> int:
    script = resource_root() / _COMMANDS[command][0]
    if not script.is_file():
        print(
            f'error: {script} is missing: the installation is incomplete, install isda_suite again',
            file=sys.stderr,
        )
        return WRONG_COMMAND
    before = sys.argv
    sys.argv = [f'{_program()} {command}', *arguments]
    try:
        _execute(script)
    except SystemExit as stop:
        if isinstance(stop.code, str):
            raise
        return stop.code or DONE
    finally:
        sys.argv = before
    return DONE


def _execute(script: Path) -> None:
    """Run a script as the main module.

    As ``runpy.run_path`` does, which would put the script's name in the place of the command's:
    usage and messages would then speak of a file that an installed package does not show.
    """
    module = ModuleType('__main__')
    module.__file__ = str(script)
    before = sys.modules['__main__']
    sys.modules['__main__'] = module
    try:
        exec(compile(script.read_bytes(), str(script), 'exec', dont_inherit=True), vars(module))
    finally:
        sys.modules['__main__'] = before


def _program() -> str:
    """Return how this process was called, for messages that can be copied."""
    name = Path(sys.argv[0]).name if sys.argv else ''
    return name if name in _SCRIPTS else _PROGRAM


def _help() -> str:
    program = _program()
    width = max(map(len, _COMMANDS))
    lines = [f'  {name:<{width}}  {text}' for name, (_, text) in _COMMANDS.items()]
    return '\n'.join(
        [
            f'usage: {program} COMMAND [ARGUMENTS]',
            '',
            *lines,
            '',
            f'{program} COMMAND --help shows the arguments of a command; '
            'python -m isda_suite.ops shows the operators in use.',
        ]
    )
