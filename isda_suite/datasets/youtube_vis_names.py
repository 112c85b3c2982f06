"""What the annotation files of video data sets are called, and finding the one that is there."""

import os

#: Split -> names below the data folder, in the order in which they are looked for: the releases of
#: YouTube-VIS 2019, of 2021, the names VisTR wants, those of OVIS, and what people make of them.
OFFICIAL_NAMES: dict[str, tuple[str, ...]] = {
    'train': (
        'train.json',
        'train/instances.json',
        'annotations/instances_train_sub.json',
        'annotations_train.json',
        'annotations/train.json',
        'annotations/instances_train.json',
    ),
    'val': (
        'valid.json',
        'valid/instances.json',
        'annotations/instances_val_sub.json',
        'annotations_valid.json',
        'annotations/valid.json',
        'annotations/instances_valid.json',
        'val.json',
        'annotations/val.json',
        'annotations/instances_val.json',
    ),
    'test': (
        'test.json',
        'test/instances.json',
        'annotations_test.json',
        'annotations/test.json',
        'annotations/instances_test.json',
    ),
}


def other_names(name: str) -> tuple[str, ...]:
    """Return the names under which the file of the same split may lie instead.

    Args:
        name: Path below the data folder.

    Returns:
        The official names of its split without itself; none if the name is not official.
    """
    for names in OFFICIAL_NAMES.values():
        if name in names:
            return tuple(one for one in names if one != name)
    return ()


def find_annotation_file(root: str, name: str) -> str:
    """Return the name of the annotation file that is there.

    The file that is asked for, if it exists; if not, and its name is one of
    :data:`OFFICIAL_NAMES`, the first of that split that does. Any other name is meant as it is.

    Args:
        root: The data folder.
        name: Path below it.

    Returns:
        A path below ``root``; ``name`` if there is none of them.
    """
    if os.path.isfile(os.path.join(root, name)):
        return name
    found = (one for one in other_names(name) if os.path.isfile(os.path.join(root, one)))
    return next(found, name)
