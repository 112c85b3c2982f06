"""The files that a visitor takes home."""

import json
import zipfile
from pathlib import Path

from isda_suite.apis.results import Result, SemanticResult, VideoResult
from isda_suite.apis.videos.writer import open_writer
from isda_suite.checkpoint.atomic import write_atomically
from isda_suite.compat.warning_filters import quiet_imports

from .outcome import Look, draw


def write_files(result: Result, look: Look, folder: Path) -> list[Path]:
    """Write picture, masks and outlines of a result, and an archive of them all.

    Args:
        result: Taken at the threshold.
        look: How it is drawn.
        folder: An empty folder.

    Returns:
        ``NAME_overlay.png``, of a video with ``NAME_overlay.webm``; ``NAME.json`` (COCO, of a video
        YouTube-VIS); ``NAME.geojson``; of classes of pixels the class map ``NAME.png`` or
        ``NAME.tif``; ``NAME.zip`` with all of them.

    Raises:
        DataError: if the file that was predicted cannot be read any more.
    """
    with quiet_imports():
        from isda_suite.visualization.pictures import save_picture

    written = [save_picture(folder / f'{result.name}_overlay.png', draw(result, look))]
    if isinstance(result, VideoResult):
        written.append(_write_video(result, look, folder / f'{result.name}_overlay.webm'))
    if isinstance(result, SemanticResult):
        # The overlay of its own does not know the look.
        written += [file for file in result.save(folder) if file.suffix != '.jpg']
    else:
        written.append(folder / f'{result.name}.json')
        with write_atomically(written[-1], text=True) as file:
            json.dump(result.to_dataset(), file)
    written.append(folder / f'{result.name}.geojson')
    with write_atomically(written[-1], text=True) as file:
        json.dump(result.to_geojson(), file)
    archive = folder / f'{result.name}.zip'
    with write_atomically(archive) as file, zipfile.ZipFile(file, 'w') as packed:
        for one in written:
            packed.write(one, one.name, zipfile.ZIP_DEFLATED)
    return [*written, archive]


def _write_video(result: VideoResult, look: Look, path: Path) -> Path:
    with open_writer(path, result.fps) as writer:
        for picture in result.draw_frames(**look.of_instances):
            writer.write(picture)
    return path
