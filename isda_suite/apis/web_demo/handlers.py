"""What happens when something on the page is pressed, dropped or moved."""

import functools
import html
import shutil
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from isda_suite.apis.web_demo.files import write_files
from isda_suite.apis.web_demo.limits import Limits, preview
from isda_suite.apis.web_demo.models import ModelShelf
from isda_suite.apis.web_demo.outcome import Look, Outcome, draw, sentence_of, table_of
from isda_suite.datasets.errors import DataError
from isda_suite.engine.exit_codes import FAILED, error_message, exit_code

Array = NDArray[Any]
#: Folders of written files that are kept; the server copies a file when the handler has returned.
_KEPT_FOLDERS = 16
_NO_MEMORY = 'there is not enough memory for this: take a smaller image, or a shorter video'
_UNEXPECTED = 'something unexpected went wrong; the terminal in which the demo runs says what'


def _told(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Show errors on the page; those that nobody foresaw also in the terminal, in full."""

    @functools.wraps(handler)
    def told(*arguments: Any) -> Any:
        try:
            return handler(*arguments)
        except Exception as error:
            text = _text_of(error)
        raise _error(text)

    return told


def _text_of(error: Exception) -> str:
    if isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError':
        return _NO_MEMORY
    if exit_code(error) != FAILED:
        return error_message(error)
    traceback.print_exception(error)
    return _UNEXPECTED


def _error(text: str) -> Exception:
    """Return the error that the page shows; the page would take the text for HTML."""
    import gradio

    safe = html.escape(text, quote=False)
    return gradio.Error(safe, duration=None, title='Not possible', print_exception=False)


@dataclass(frozen=True)
class Belongings:
    """What is in view for models of one task, and hidden for those of another.

    Args:
        score_thr: The slider; the classes of pixels have no scores.
        boxes: The switch; nor boxes that mean anything.
        images: Examples for models of images.
        videos: Examples for models of videos.
    """

    score_thr: bool
    boxes: bool
    images: bool
    videos: bool

    @classmethod
    def of(cls, task: str) -> 'Belongings':
        """Tell for ``'instance'``, ``'semantic'`` or ``'video'``."""
        has_instances, has_video = task != 'semantic', task == 'video'
        return cls(has_instances, has_instances, not has_video, has_video)


class Handlers:
    """Answers to what a visitor does.

    Several take ``score_thr``, ``opacity``, ``boxes`` and ``labels``, what the controls of the page
    say: the fields of :class:`.outcome.Look`, where they are described.

    Args:
        shelf: The models.
        limits: What is refused.
        folder: For files that are given away.
    """

    def __init__(self, shelf: ModelShelf, limits: Limits, folder: Path) -> None:
        self._shelf = shelf
        self._limits = limits
        self._folder = folder
        self._written: deque[Path] = deque()

    @_told
    def choose(self, model: str) -> tuple[Any, ...]:
        """Load a model, and show what belongs to its task.

        Returns:
            Whether each thing that only some tasks have is in view, in the order of
            :class:`Belongings`.
        """
        import gradio

        shown = Belongings.of(self._shelf.take(model).task)
        return tuple(gradio.update(visible=value) for value in vars(shown).values())

    @_told
    def arrange(self, outcome: Outcome | None) -> Any:
        """Show the place of the video if a video was predicted, and hide it otherwise."""
        import gradio

        return gradio.update(visible=outcome is not None and outcome.is_video)

    @_told
    def show_input(self, file: str | None) -> tuple[Any, ...]:
        """Show what was dropped, and clear what was found before.

        Returns:
            Outcome, picture, sentence, table, video, files.
        """
        picture = None
        if file is not None:
            with _without_folder(file) as path:
                self._limits.check_size(path)
                picture = preview(path)
        return None, picture, '', None, None, None

    @_told
    def predict(
        self,
        model: str,
        file: str | None,
        score_thr: float,
        opacity: float,
        boxes: bool,
        labels: bool,
    ) -> tuple[Any, ...]:
        """Run the network of the name ``model`` on the ``file`` that was dropped.

        Returns:
            Outcome, picture, sentence, table.
        """
        if file is None:
            raise DataError('drop an image or a video first, or choose an example')
        with _without_folder(file) as path:
            segmenter = self._shelf.take(model)
            self._limits.check(path, segmenter.task)
            outcome = Outcome(segmenter(path), model)
        look = Look(score_thr, opacity, boxes, labels)
        return outcome, *self._shown(outcome, look)

    @_told
    def redraw(
        self,
        outcome: Outcome | None,
        score_thr: float,
        opacity: float,
        boxes: bool,
        labels: bool,
    ) -> Any:
        """Draw what :meth:`predict` found once more; the network does not run.

        Returns:
            Picture, sentence, table, video, files; the last two are not those of this look.
        """
        import gradio

        if outcome is None:
            return tuple(gradio.skip() for _ in range(5))
        look = Look(score_thr, opacity, boxes, labels)
        return *self._shown(outcome, look), None, None

    @_told
    def write(
        self,
        outcome: Outcome | None,
        score_thr: float,
        opacity: float,
        boxes: bool,
        labels: bool,
    ) -> tuple[Any, ...]:
        """Write the files of what :meth:`predict` found.

        Returns:
            Video (``None`` of an image) and files.
        """
        if outcome is None:
            raise DataError('there is nothing to save yet: press Run first')
        look = Look(score_thr, opacity, boxes, labels)
        files = write_files(outcome.at(score_thr), look, self._new_folder())
        videos = [str(file) for file in files if file.suffix == '.webm']
        return (videos[0] if videos else None), [str(file) for file in files]

    def _shown(self, outcome: Outcome, look: Look) -> tuple[Any, ...]:
        result = outcome.at(look.score_thr)
        headers, rows = table_of(result)
        table = {'headers': list(headers), 'data': rows}
        return draw(result, look), sentence_of(result, outcome), table

    def _new_folder(self) -> Path:
        self._written.append(Path(tempfile.mkdtemp(dir=self._folder)))
        while len(self._written) > _KEPT_FOLDERS:
            shutil.rmtree(self._written.popleft(), ignore_errors=True)
        return self._written[-1]


@contextmanager
def _without_folder(file: str) -> Iterator[Path]:
    """Yield a file as a path; say nothing in messages about where it lies on this machine."""
    path = Path(file)
    try:
        yield path
    except DataError as error:
        raise DataError(str(error).replace(f'{path.parent}/', '')) from error
