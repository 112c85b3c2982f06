"""Small videos, written where a test wants them."""

import cv2
import numpy as np


def moving_square(num_frames, height=48, width=64, step=3):
    """Return frames (H, W, 3) uint8 BGR: a bright square that moves to the right."""
    frames = np.full((num_frames, height, width, 3), 60, np.uint8)
    for number, frame in enumerate(frames):
        left = 2 + number * step % (width - 18)
        frame[10:26, left : left + 16] = (30, 200, 240)
    return list(frames)


def write_video(path, frames, fps=12.0):
    """Write frames as MPEG-4."""
    height, width = frames[0].shape[:2]
    encoder = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), fps, (width, height))
    for frame in frames:
        encoder.write(frame)
    encoder.release()
    return path


def write_frames(folder, frames, name='frame_{}.png'):
    """Write frames as pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        assert cv2.imwrite(str(folder / name.format(number)), frame)
    return folder
