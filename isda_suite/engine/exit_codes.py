"""What the exit code of a tool means, and how errors become one.

Nothing heavy is imported here: a tool calls :func:`run_tool` before it knows whether it needs the
stack at all.
"""

import atexit
import contextlib
import gc
import io
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

DONE = 0
FAILED = 1
WRONG_COMMAND = 2
WRONG_DATA = 3
NON_FINITE_LOSS = 4
PREEMPTED = 75
INTERRUPTED = 130

# Classes are named, not imported: an error can only be raised when its module is loaded already,
# and loading the others costs seconds.
_CODES: tuple[tuple[str, str, int], ...] = (
    ('isda_suite.engine.errors', 'NonFiniteLossError', NON_FINITE_LOSS),
    ('isda_suite.engine.errors', 'PreemptedError', PREEMPTED),
    ('isda_suite.engine.errors', 'ConfigError', WRONG_COMMAND),
    ('isda_suite.checkpoint.errors', 'CheckpointError', WRONG_COMMAND),
    ('isda_suite.layers.errors', 'ModelConfigError', WRONG_COMMAND),
    ('isda_suite.ops.errors', 'OpsLibraryError', WRONG_COMMAND),
    ('isda_suite.datasets.errors', 'DataError', WRONG_DATA),
)
# Whether native threads may outlive the tool: this process was a rank (the group itself may be
# gone), or said so.
_has_native_threads = False
_WRONG_PATHS = (
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)


def exit_code(error: BaseException) -> int:
    """Return the exit code that stands for an error.

    Args:
        error: What was raised.

    Returns:
        One of the constants of this module.
    """
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    for module, name, code in _CODES:
        known = getattr(sys.modules.get(module), name, None)
        if known is not None and isinstance(error, known):
            return code
    return WRONG_COMMAND if isinstance(error, _WRONG_PATHS) else FAILED


def error_message(error: BaseException) -> str:
    """Return the text a user needs of an error.

    An error of a data loading worker arrives with the worker's traceback as its text; only the
    message at the end of it is kept.

    Args:
        error: What was raised.
    """
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if text.startswith('Caught ') and 'Original Traceback' in text:
        text = text.rpartition(f'{type(error).__name__}: ')[2].strip()
    if isinstance(error, FileExistsError | NotADirectoryError) and error.filename is not None:
        if Path(error.filename).is_dir():
            return f'{error.filename} is there already: name another one'
        return f'{error.filename} is a file, where a folder is needed: name another one'
    if isinstance(error, PermissionError) and error.filename is not None:
        return f'no permission for {error.filename}: name another place, or change its rights'
    return text or type(error).__name__


def run_tool(main: Callable[[], int | None]) -> int:
    """Run a tool; print one clear message for an error a user can mend.

    The traceback of such an error is printed only with ``ISDA_DEBUG=1`` in the environment.
    Anything unexpected keeps its traceback. With ``ISDA_EXIT_CODE_FILE`` set, a code other than
    0 is also written to that file: ``torchrun`` answers 1 whatever its processes answered, so
    the scripts that call it look there.

    Args:
        main: The tool; what it returns is the exit code, None means 0.

    Returns:
        The exit code, to be given to :func:`leave`.
    """
    # Idle threads of OpenMP spin by default. Where the cores have other work too, each of the many
    # short parallel sections then waits for a thread that waits for its core: a training step of
    # two threads took 22 times as long beside another process. Read once, when torch is imported.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    try:
        code = main() or DONE
        _leave_group()
    except SystemExit as stop:  # argparse has printed what is wrong
        code = stop.code if isinstance(stop.code, int) else FAILED
    except (Exception, KeyboardInterrupt) as error:
        code = exit_code(error)
        _report(error, code)
    _note_group()
    if code != DONE:
        _leave_code(code)
    return code


def expect_native_threads() -> None:
    """Let :func:`leave` end this process as a rank: a model may still be at work in a thread."""
    global _has_native_threads
    _has_native_threads = True


def leave(code: int) -> NoReturn:
    """End the process; the last thing a tool does, outside of any ``try``.

    A process that was never a rank of a distributed run, and has not called
    :func:`expect_native_threads`, ends with ``sys.exit``. In a rank, native
    threads (of gloo, of the gradients' reduction, of autograd) may still be at work when Python
    takes its interpreter apart. One that then asks for the interpreter's lock is unwound through
    code that allows no exception, and the process dies of SIGABRT ("terminate called without an
    active exception"), though it has done its work. So a
    rank does what Python would do for the tool (threads joined, the functions of ``atexit``, files
    flushed) and leaves without taking the interpreter apart.

    Args:
        code: What :func:`run_tool` returned.
    """
    if not _has_native_threads:
        sys.exit(code)
    try:
        # Joins the threads that are no daemons and ends pools of threads, as Python's own end.
        getattr(threading, '_shutdown', lambda: None)()
        # Among others: multiprocessing ends workers and removes temporary files; logging flushes.
        atexit._run_exitfuncs()
    except BaseException as error:
        traceback.print_exception(error)
    finally:
        _flush_files()
        os._exit(code)


def _flush_files() -> None:
    """Flush every open file: none will be closed by the end of its object."""
    files = [item for item in gc.get_objects() if issubclass(type(item), io.IOBase)]
    for file in [*files, sys.stdout, sys.stderr]:
        with contextlib.suppress(Exception):
            file.flush()


def _group() -> Any:
    """Return ``torch.distributed`` if this process is a rank."""
    distributed = sys.modules.get('torch.distributed')
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed


def _note_group() -> None:
    global _has_native_threads
    _has_native_threads = _has_native_threads or _group() is not None


def _leave_group() -> None:
    """Leave the other ranks, whose connections would fail if this one just went."""
    distributed = _group()
    if distributed is None:
        return
    _note_group()
    if distributed.get_backend() == 'gloo':
        # Its threads fail on a connection that another rank has closed, so all leave together.
        # NCCL has no such threads, and would abort a rank that waits here for too long. This rank
        # has done its work: what became of the others is theirs to report.
        with contextlib.suppress(RuntimeError):
            distributed.barrier()
    distributed.destroy_process_group()


def _report(error: BaseException, code: int) -> None:
    sys.stdout.flush()
    if code == FAILED or os.environ.get('ISDA_DEBUG', '') not in ('', '0'):
        traceback.print_exception(error)
    if code == INTERRUPTED:
        print('interrupted', file=sys.stderr)
    elif code != FAILED:
        rank = os.environ.get('RANK', '0')
        where = f' on rank {rank}' if rank != '0' else ''
        kind = 'stopped' if code == PREEMPTED else 'error'
        print(f'{kind}{where}: {error_message(error)}', file=sys.stderr)
    sys.stderr.flush()


def _leave_code(code: int) -> None:
    name = os.environ.get('ISDA_EXIT_CODE_FILE')
    if not name:
        return
    path = Path(name)
    # Several ranks may write; a code that says what happened is kept before a mere 1.
    if code != FAILED or not path.is_file() or not path.read_text().strip():
        path.write_text(f'{code}\n')
