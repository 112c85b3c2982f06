"""The benchmark of memory over the length of a video: its frames, its page and its curve."""

import numpy as np

from benchmarks import video_memory

ROWS = [
    dict(kind=kind, frames=frames, peak_mb=30.5, tracks=2, codes_mb=0.25)
    for kind in video_memory.KINDS
    for frames in (4, 8)
]


def test_frames_are_made_one_by_one_and_differ():
    frames = video_memory.frames_of(3)
    first, second = next(frames), next(frames)
    assert first.shape == (*video_memory.SIZE_HW, 3) and first.dtype == np.uint8
    assert (first != second).any()
    assert len(list(frames)) == 1


def test_the_page_and_the_curve_hold_every_row(tmp_path):
    about = dict(model='m', threads=1, machine='x', python='3', torch='2', date='today')
    page = video_memory.table({**about, 'rows': ROWS})
    assert '| frames drawn | 8 | 30.5 |  |  |' in page
    assert '| frames drawn and tracks kept | 4 | 30.5 | 0.25 | 2 |' in page
    video_memory.draw(ROWS, tmp_path / 'curve')
    curve = (tmp_path / 'curve.svg').read_text()
    assert all(kind in curve for kind in video_memory.KINDS.values())
    assert (tmp_path / 'curve.png').stat().st_size > 1000
