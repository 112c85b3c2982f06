"""Pictures and a video to begin with: scenes of the built-in data set, which are nobody's work."""

from dataclasses import dataclass
from pathlib import Path

from isda_suite.apis.videos.writer import open_writer
from isda_suite.datasets.sample import scene_of
from isda_suite.datasets.sample_folder import write_image
from isda_suite.datasets.sample_video import video_of
from isda_suite.datasets.scene_rendering import render
from isda_suite.visualization.pictures import save_picture, with_caption

_SEED = 0
_NUM_IMAGES = 4
_VIDEO_FPS = 6.0


@dataclass(frozen=True)
class Example:
    """Something to begin with.

    Args:
        file: An image or a video.
        thumbnail: The picture that stands for it.
    """

    file: Path
    thumbnail: Path


def write_example_images(folder: Path) -> list[Example]:
    """Write validation images of the sample into a folder, ``example_1.png`` and so on."""
    files = [folder / f'example_{number}.png' for number in range(1, _NUM_IMAGES + 1)]
    for index, file in enumerate(files):
        write_image(file, render(scene_of(_SEED, 'val', index)).image)
    return [Example(file, file) for file in files]


def write_example_videos(folder: Path) -> list[Example]:
    """Write a video of the sample into a folder, ``example_video.webm``."""
    scene, length = video_of(_SEED, 'valid', 0)
    frames = [render(scene, float(time)).image[..., ::-1] for time in range(length)]
    path = folder / 'example_video.webm'
    with open_writer(path, _VIDEO_FPS) as writer:
        for frame in frames:
            writer.write(frame)
    first = with_caption(frames[0], 'video')
    return [Example(path, save_picture(folder / 'example_video.png', first))]
