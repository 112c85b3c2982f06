"""Start the web demo."""

import contextlib
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from isda_suite.compat.warning_filters import quiet_imports
from isda_suite.engine.errors import ConfigError

INSTALL = "pip install 'isda_suite[web]'"
#: Variable of the environment in which gradio looks for a place for files.
_GRADIO_FOLDER = 'GRADIO_TEMP_DIR'
_ENDING = ('SIGTERM', 'SIGHUP')


@dataclass(frozen=True)
class DemoSettings:
    """What the demo shows, and where.

    Args:
        models: Names or paths of configurations; none stands for the zoo's models with weights.
        weights: One for each model; none takes those of the zoo.
        device: As ``Segmenter`` takes it.
        trust: Read checkpoints that may run code.
        min_score: What scores below is not kept, 0..1; the lower end of the slider.
        host: Address to listen on; ``127.0.0.1`` is seen from this machine only.
        port: ``None`` takes the first free one from 7860 on.
        share: Ask gradio's service for a public address.
        limits: Keywords of :class:`.limits.Limits`.
    """

    models: Sequence[str] = ()
    weights: Sequence[str] = ()
    device: str = 'auto'
    trust: bool = False
    min_score: float = 0.05
    host: str = '127.0.0.1'
    port: int | None = None
    share: bool = False
    limits: dict[str, Any] = field(default_factory=dict)


@contextmanager
def open_demo(settings: DemoSettings) -> Iterator[str]:
    """Serve the demo as long as the block runs.

    The first model is loaded before the page is there; others when they are chosen.

    Args:
        settings: What and where.

    Yields:
        Its address.

    Raises:
        ConfigError: if gradio is missing, there is no model to show, or nothing can listen there.
        CheckpointError: if weights are missing or cannot be used.
    """
    gradio = require_gradio()
    with quiet_imports():
        from .examples import write_example_images, write_example_videos
        from .handlers import Handlers
        from .limits import Limits
        from .models import ModelShelf, choose_offers
        from .page import build_page

    if not 0 <= settings.min_score < 1:
        raise ConfigError(f'min_score must lie between 0 and 1, got {settings.min_score}')
    limits = Limits(**settings.limits)
    offers = choose_offers(settings.models, settings.weights)
    shelf = ModelShelf(offers, settings.device, settings.min_score, settings.trust)
    first = shelf.take(shelf.names[0])
    with _working_folder() as folder:
        is_video, is_only = first.task == 'video', len(offers) == 1
        page = build_page(
            Handlers(shelf, limits, folder),
            shelf.names,
            first.task,
            [] if is_only and is_video else write_example_images(folder),
            [] if is_only and not is_video else write_example_videos(folder),
            settings.min_score,
        )
        try:
            address = _launch(gradio, page, settings, limits.max_file_mb, folder)
            _drop_closed_log_files()
            yield address
        finally:
            page.close(verbose=False)


@contextmanager
def _working_folder() -> Iterator[Path]:
    """Yield a temporary folder, which also takes what gradio stores of its visitors."""
    before = os.environ.get(_GRADIO_FOLDER)
    with tempfile.TemporaryDirectory(
        prefix='isda_suite_demo_', dir=before, ignore_cleanup_errors=True
    ) as name:
        # A link on the way (/tmp of macOS) would make gradio refuse its own files.
        folder = Path(name).resolve()
        os.environ[_GRADIO_FOLDER] = str(folder / 'gradio')
        try:
            yield folder
        finally:
            if before is None:
                del os.environ[_GRADIO_FOLDER]
            else:
                os.environ[_GRADIO_FOLDER] = before


def _drop_closed_log_files() -> None:
    """Take files from the logs that the web server has closed.

    It sets up Python's logging anew, which closes every handler there is; mmengine writes what it
    has initialised straight into the files of its loggers.
    """
    from mmengine.logging import MMLogger

    for name in list(MMLogger._instance_dict):
        logger = MMLogger.get_instance(name)
        for handler in list(logger.handlers):
            if isinstance(handler, logging.FileHandler) and handler.stream is None:
                logger.removeHandler(handler)


def describe_models(settings: DemoSettings) -> list[str]:
    """Load every model that the demo would offer, and say in a line what each is.

    Raises:
        ConfigError: if there is no model to show, one cannot be built, or a limit is none.
        CheckpointError: if weights are missing or cannot be used.
    """
    with quiet_imports():
        from .limits import Limits
        from .models import ModelShelf, choose_offers

    Limits(**settings.limits)
    offers = choose_offers(settings.models, settings.weights)
    shelf = ModelShelf(offers, settings.device, settings.min_score, settings.trust, room=1)
    return [_described(name, shelf.take(name)) for name in shelf.names]


def _described(name: str, segmenter: Any) -> str:
    return f'{name}: {segmenter.task}, {len(segmenter.classes)} classes, on {segmenter.device}'


def serve(settings: DemoSettings) -> None:
    """Serve the demo until it is interrupted; see :func:`open_demo`.

    Ctrl+C, SIGTERM and the end of the terminal (SIGHUP) are one: they end the page and remove the
    files. A second SIGTERM ends the process where it stands.
    """
    with _signals_interrupt(), open_demo(settings) as address:
        print(f'the demo is at {address} (Ctrl+C ends it)', flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let signals that would end the process at once raise KeyboardInterrupt, each once."""

    def interrupt(number: int, _: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    # Under nohup the end of the terminal is nobody's business.
    numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def require_gradio() -> Any:
    """Import gradio, with its reports to its makers switched off.

    Raises:
        ConfigError: if it is not installed, or too old.
    """
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    os.environ['HF_HUB_DISABLE_TELEMETRY'] = '1'
    try:
        import gradio
    except ImportError as error:
        raise ConfigError(f'the web demo needs gradio: {INSTALL}') from error
    if int(gradio.__version__.partition('.')[0]) < 6:
        raise ConfigError(
            f'the web demo needs gradio 6 or newer, found {gradio.__version__}: {INSTALL}'
        )
    return gradio


def _launch(
    gradio: Any, page: Any, settings: DemoSettings, max_file_mb: float, folder: Path
) -> str:
    # The usual theme names fonts that the page would fetch from another machine.
    fonts = ('system-ui', 'sans-serif'), ('ui-monospace', 'monospace')
    try:
        _, local, public = page.launch(
            server_name=settings.host,
            server_port=settings.port,
            share=settings.share,
            theme=gradio.themes.Default(font=fonts[0], font_mono=fonts[1]),
            allowed_paths=[str(folder)],
            max_file_size=int(max_file_mb * 1e6),
            footer_links=['api'],
            run_history=False,
            ssr_mode=False,
            prevent_thread_lock=True,
            quiet=True,
        )
    except OSError as error:
        where = f'{settings.host}:{settings.port or "7860 and above"}'
        raise ConfigError(
            f'the demo cannot listen on {where} ({error}): give another --host or --port'
        ) from error
    return str(public or local)
