"""A folder of pictures with results, named like what was predicted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isda_suite.apis.downloads.remote_files import file_name
from isda_suite.apis.inference import SUFFIXES
from isda_suite.engine.errors import ConfigError

from .base import Result
from .images import ImageResult


class PictureFolder:
    """Write pictures of results into a folder, each named like its image.

    Args:
        folder: Made with the first picture.
        inputs: The files that are predicted.

    Attributes:
        folder: The folder.

    Raises:
        ConfigError: if one of the files lies in the folder, where a picture would replace it.
    """

    def __init__(self, folder: str | Path, inputs: Sequence[Path] = ()) -> None:
        self.folder = Path(folder).expanduser()
        here = self.folder.resolve()
        if any(file.parent.resolve() == here for file in inputs):
            raise ConfigError(
                f'--out-dir {self.folder} holds the images: the pictures would replace them'
            )
        self._names: set[str] = set()  # images of two folders may share theirs
        self._count = 0

    def write(self, result: Result) -> list[Path]:
        """Write the picture of an image or a frame; of a video all that its result saves.

        Args:
            result: Of an image or a video.

        Returns:
            The files.

        Raises:
            DataError: if what was predicted cannot be read any more.
        """
        from isda_suite.visualization.pictures import save_picture

        if not isinstance(result, ImageResult):
            return result.save(self.folder)
        name = self._name_of(result)
        name = name if name not in self._names else f'{self._count}_{name}'
        self._names.add(name)
        self._count += 1
        return [save_picture(self.folder / name, result.plot())]

    def _name_of(self, result: ImageResult) -> str:
        source: Any = result.source
        if result.frame is not None or not isinstance(source, str | Path):
            return f'{result.name}.jpg'
        name = source.name if isinstance(source, Path) else file_name(source)
        return name if name.lower().endswith(SUFFIXES) else f'{result.name}.jpg'
