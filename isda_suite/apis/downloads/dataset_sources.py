"""Where public data sets are, and what is known about their files."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlparse


@dataclass(frozen=True)
class Source:
    """One file to download.

    Args:
        url: Address, https.
        size: Bytes, ``None`` where unknown.
        digest: ``'md5:…'`` or ``'sha256:…'``, ``None`` where unknown; then the first download's
            hash is kept in the lock file.
        folder: Folder below the save directory into which an archive is unpacked.
    """

    url: str
    size: int | None = None
    digest: str | None = None
    folder: str = ''

    @property
    def file_name(self) -> str:
        """Name under which the file is stored."""
        return PurePosixPath(urlparse(self.url).path).name


@dataclass(frozen=True)
class DatasetSources:
    """All files of a data set and the folder its configurations expect them in."""

    save_dir: str
    files: tuple[Source, ...]


# The certificate of images.cocodataset.org does not fit its name, so the same bucket is asked
# under the address that has a fitting one. Likewise for the VOC server.
_COCO = 'https://s3.amazonaws.com/images.cocodataset.org'
_LVIS = 'https://s3-us-west-2.amazonaws.com/dl.fbaipublicfiles.com/LVIS'
_VOC = 'https://thor.robots.ox.ac.uk/pascal/VOC/voc2007'

_COCO_TRAIN = Source(
    f'{_COCO}/zips/train2017.zip', 19336861798, 'md5:cced6f7f71b7629ddf16f17bbcfab6b2'
)
_COCO_VAL = Source(f'{_COCO}/zips/val2017.zip', 815585330, 'md5:442b8da7639aecaf257c1dceb8ba8c80')

SOURCES: dict[str, DatasetSources] = {
    'coco2017': DatasetSources(
        'data/coco',
        (
            Source(
                f'{_COCO}/annotations/annotations_trainval2017.zip',
                252907541,
                'md5:f4bbac642086de4f52a3fdda2de5fa2c',
            ),
            Source(f'{_COCO}/annotations/image_info_test2017.zip'),
            _COCO_VAL,
            _COCO_TRAIN,
            Source(
                f'{_COCO}/zips/test2017.zip', 6646970404, 'md5:77ad2c53ac5d0aea611d422c0938fb35'
            ),
        ),
    ),
    'lvis': DatasetSources(
        'data/lvis',
        (
            Source(f'{_LVIS}/lvis_v1_train.json.zip', folder='annotations'),
            Source(f'{_LVIS}/lvis_v1_val.json.zip', folder='annotations'),
            _COCO_VAL,
            _COCO_TRAIN,
        ),
    ),
    'voc2007': DatasetSources(
        'data/voc',
        (
            Source(
                f'{_VOC}/VOCtrainval_06-Nov-2007.tar',
                digest='md5:c52e279531787c972589f7e41ab4ae64',
            ),
            Source(
                f'{_VOC}/VOCtest_06-Nov-2007.tar', digest='md5:b6e924de25625d8de591ea690078ad9f'
            ),
            Source(f'{_VOC}/VOCdevkit_08-Jun-2007.tar'),
        ),
    ),
}
