"""Pictures and a video to begin with: scenes of the built-in data set, which are nobody's work."""

from pathlib import Path

from isda_suite.apis.video_writer import open_writer
from isda_suite.datasets.sample import scene_of
from isda_suite.datasets.sample_folder import write_image
from isda_suite.datasets.sample_video import video_of
from isda_suite.datasets.scene_rendering import render

_SEED = 0
_VIDEO_FPS = 6.0


def write_example_images(folder: Path, count: int = 4) -> list[Path]:
    """Write validation images of the sample, ``example_1.png`` and so on.

    Args:
        folder: Where they go.
        count: How many.
    """
    files = [folder / f'example_{number}.png' for number in range(1, count + 1)]
    for index, file in enumerate(files):
        write_image(file, render(scene_of(_SEED, 'val', index)).image)
    return files


def write_example_video(folder: Path) -> Path:
    """Write a video of the sample, ``example_video.webm``."""
    scene, length = video_of(_SEED, 'valid', 0)
    path = folder / 'example_video.webm'
    with open_writer(path, _VIDEO_FPS) as writer:
        for time in range(length):
            writer.write(render(scene, float(time)).image[..., ::-1])
    return path
