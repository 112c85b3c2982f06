"""Draw a video's tracks on its frames: into a file, a folder, or a window."""

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray
from torch import nn

from isda_suite.apis.video import VideoFrame, VideoPrediction
from isda_suite.compat.warning_filters import quiet_imports
from isda_suite.engine.errors import ConfigError

from .writer import open_writer

Array = NDArray[Any]
_CLOSING_KEYS = (ord('q'), 27)


def draw_frame(model: nn.Module, frame: VideoFrame, score_thr: float = 0.3) -> Array:
    """Draw the tracks of a frame over it.

    Args:
        model: The model that found them, for the names of its classes.
        frame: From :func:`.video.predict_video`.
        score_thr: Instances below this score in this frame are left out.

    Returns:
        RGB picture; small frames are enlarged.
    """
    with quiet_imports():
        from isda_suite.visualization.tubes import TubeSlice, draw_tubes

    columns = frame.ids, frame.labels, frame.scores, frame.masks
    slices = [TubeSlice(*row) for row in zip(*columns, strict=True)]
    meta: Any = model.dataset_meta
    return draw_tubes(frame.image[..., ::-1], slices, meta.get('classes'), score_thr)


def draw_video(
    model: nn.Module,
    prediction: VideoPrediction,
    out: str | Path | None = None,
    score_thr: float = 0.3,
    fps: float | None = None,
    show: bool = False,
) -> int:
    """Run a prediction to its end and draw every frame.

    Args:
        model: The model that predicts.
        prediction: From :func:`.video.predict_video`, not begun.
        out: Where the pictures go, see :func:`.videos.writer.open_writer`; ``None`` for nowhere.
        score_thr: Instances below this score in a frame are not drawn.
        fps: Frames per second of the video; ``None`` takes those of the source.
        show: Also show the pictures in a window; its keys q and escape end the video.

    Returns:
        How many tracks were drawn in any frame.

    Raises:
        ConfigError: if there is no screen, or ``out`` cannot be written.
        DataError: if a frame cannot be read.
    """
    if show:
        _require_screen()
    seen: set[int] = set()
    with nullcontext() if out is None else open_writer(out, fps or prediction.video.fps) as writer:
        for frame in prediction:
            pairs = zip(frame.ids, frame.scores, strict=True)
            seen |= {track for track, score in pairs if score >= score_thr}
            if writer is None and not show:
                continue
            picture = draw_frame(model, frame, score_thr)
            if writer is not None:
                writer.write(picture)
            if show and _is_closed_after(picture, prediction.video.name):
                prediction.video.stop()
    if show:
        cv2.destroyAllWindows()
    return len(seen)


def _require_screen() -> None:
    """Refuse to open a window where that would abort the process.

    Raises:
        ConfigError: if there is no screen.
    """
    is_linux = sys.platform.startswith('linux')
    if is_linux and not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')):
        raise ConfigError('--show: there is no screen here (DISPLAY is not set): use --out')


def _is_closed_after(picture: Array, title: str) -> bool:
    """Show a picture; tell whether a key was pressed that ends the video."""
    try:
        cv2.imshow(title, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return cv2.waitKey(1) & 0xFF in _CLOSING_KEYS
    except cv2.error as error:
        raise ConfigError(f'--show: this OpenCV opens no windows ({error.err})') from error
