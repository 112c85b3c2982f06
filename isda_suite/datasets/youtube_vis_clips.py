"""Videos cut into clips, for tests in constant memory."""

from typing import Any

from isda_suite.registry import DATASETS

from .clips import as_clip, check_clip_length, clip_records
from .youtube_vis import YouTubeVISInstanceDataset


@DATASETS.register_module()
class YouTubeVISClipDataset(YouTubeVISInstanceDataset):
    """Give the clips of all videos one by one, those of a video in order.

    An item is a clip, so that a test needs the memory of one clip however long a video is; the
    model links the clips of a video. Run it with ``isda_suite.VideoSampler``, which leaves the
    clips of a video to one process. See :mod:`isda_suite.datasets.clips` for which frames they
    have.

    Args:
        clip_len: Frames of a clip.
        overlap: Frames that a clip shares with the next one, at least.
        **kwargs: Arguments of :class:`YouTubeVISInstanceDataset`.

    Raises:
        ValueError: if it is not in test mode, or the lengths do not fit.
    """

    def __init__(self, *args: Any, clip_len: int, overlap: int = 0, **kwargs: Any) -> None:
        check_clip_length(clip_len, overlap)
        if not kwargs.get('test_mode'):
            raise ValueError(
                'YouTubeVISClipDataset cuts videos for tests: set test_mode=True, or train on '
                'isda_suite.YouTubeVISInstanceDataset with isda_suite.SampleClip'
            )
        self.clip_len = clip_len
        self.overlap = overlap
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read and check the annotation file; return one record a clip."""
        return [
            clip
            for video in super().load_data_list()
            for clip in clip_records(video, self.clip_len, self.overlap)
        ]

    def prepare_data(self, idx: int | tuple[int, int]) -> Any:
        """Run the pipeline on a clip.

        Args:
            idx: Index of the clip.

        Raises:
            TypeError: for the index of a frame, as mmdet's ``TrackImgSampler`` gives.
        """
        if isinstance(idx, tuple):
            raise TypeError(
                'YouTubeVISClipDataset has clips, no single frames: use isda_suite.VideoSampler'
            )
        record = self.get_data_info(idx)
        images, start = record['images'], record['clip_start']
        frames = [images[number - start] for number in record['clip_frames']]
        facts = {
            key: record[key] for key in ('clip_frames', 'clip_start', 'num_valid', 'is_last_clip')
        }
        facts['clip_overlap'] = self.overlap
        facts['ori_shape'] = (images[0]['height'], images[0]['width'])
        facts['file_names'] = [frame['file_name'] for frame in frames]
        return self.pipeline(as_clip(record, frames, **facts))

    @property
    def num_all_imgs(self) -> int:
        """Number of frames of all videos; those that clips share are counted once."""
        records = (self.get_data_info(index) for index in range(len(self)))
        return sum(one['video_length'] for one in records if one['is_last_clip'])
