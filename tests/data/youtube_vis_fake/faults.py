"""What can be wrong with the annotations, and the message about it."""


def set_item(where, index, **values):
    def change(content):
        content[where][index].update(values)

    return change


def remove_item(where, index, key):
    def change(content):
        del content[where][index][key]

    return change


def set_frame(track, frame, **values):
    """Change one frame of a track: segmentations, bboxes, areas."""

    def change(content):
        for key, value in values.items():
            content['annotations'][track][key][frame] = value

    return change


def _rle(size, counts):
    return set_frame(1, 2, segmentations={'size': size, 'counts': counts})


def _orphans(**values):
    def change(content):
        track = content['annotations'][0]
        content['annotations'] += [{**track, 'id': 100 + index, **values} for index in range(3)]

    return change


FATAL = {
    'absent class': (set_item('categories', 1, name='dogs'), "class 'dog' .* nearest: dogs"),
    'class twice': (set_item('categories', 1, name='cat'), "name 'cat' stands 2 times"),
    'category without id': (remove_item('categories', 0, 'id'), 'category without id or name'),
    'video without id': (
        remove_item('videos', 1, 'id'),
        r'video without id\n.*videos\[1\].*v2/00000',
    ),
    'video without names': (
        remove_item('videos', 0, 'file_names'),
        r'video without file_names\n.*videos\[0\], video id 1',
    ),
    'video without size': (
        set_item('videos', 1, height=None, width='64'),
        r'video without height, width\n.*video id 2, v2/00000',
    ),
    'video without length': (remove_item('videos', 2, 'length'), r'without length\n.*video id 3'),
    'video without frames': (
        set_item('videos', 1, file_names=[], length=0),
        r'video without frames: file_names is empty\n.*video id 2',
    ),
    'length': (
        set_item('videos', 1, length=5),
        r'not as many as its length\n.*video id 2, v2/00000\.jpg: 3 file_names, length 5',
    ),
    'video id twice': (
        set_item('videos', 1, id=1),
        r'videos with the same id\n.*video id 1: v1/00000\.jpg and v2/00000\.jpg',
    ),
    'file name of a number': (
        set_item('videos', 2, file_names=[7, 'v3/00001.jpg']),
        'no text\n.*video id 3, frame 0: 7',
    ),
    'outside': (
        set_item('videos', 2, file_names=['v3/00000.jpg', '../../../x.jpg']),
        r'points out of .*allow_outside=True.*\n.*video id 3, frame 1: \.\./\.\./\.\./x\.jpg',
    ),
    'annotation without id': (
        remove_item('annotations', 2, 'id'),
        r'annotation without id\n.*annotations\[2\], video id 2',
    ),
    'annotation id of text': (
        set_item('annotations', 2, id='dog 7'),
        r"no whole number .*\n.*annotations\[2\], video id 2: annotation id 'dog 7'",
    ),
    'annotation id twice': (set_item('annotations', 2, id=11), 'annotation id 11 stands 2 times'),
    'lists too short': (
        set_item('annotations', 2, areas=[1, 2]),
        r'whose areas are not as many as the frames.*\n'
        r'.*v2/00000\.jpg, video id 2, annotation id 13: 2, the video has 3',
    ),
    'segmentations too short': (
        lambda content: content['annotations'][1]['segmentations'].pop(),
        'whose segmentations are not as many as the frames.*\n'
        r'.*v1/00000\.jpg, video id 1, annotation id 12: 3, the video has 4',
    ),
    'segmentations no list': (
        set_item('annotations', 2, segmentations={}),
        'whose segmentations are not as many .*\n.*annotation id 13: no list, the video has 3',
    ),
    'boxes too many': (
        set_item('annotations', 0, bboxes=[None] * 9),
        'whose bboxes are .*\n.*: 9,',
    ),
    'absent video': (_orphans(video_id=77), 'more than 1 % .* no video or category.*\n.*3 of 7'),
    'unknown category': (_orphans(category_id=77), 'more than 1 %.*\n.*3 of 7'),
    'RLE of another size': (
        _rle([64, 48], [0, 9, 64 * 48 - 9]),
        r'mask or box that cannot be used\n.*v1/00002\.jpg, video id 1, annotation id 12, frame 2: '
        r'RLE size \(h, w\) = \(64, 48\) but the image is \(48, 64\)',
    ),
    'RLE too short': (_rle([48, 64], [100, 20]), 'counts cover 120 pixels, but 48 x 64 = 3072'),
    'RLE too long': (_rle([48, 64], [100, 3000]), 'counts cover 3100 pixels'),
    'RLE cut': (_rle([48, 64], 'aP'), 'ends inside a number'),
    'RLE of words': (_rle([48, 64], ['a']), 'counts cannot be read'),
    'RLE without counts': (_rle([48, 64], None), 'RLE without size or counts'),
    'RLE without size': (_rle(None, [3072]), 'RLE without size or counts'),
    'area of text': (
        set_frame(0, 3, areas='large'),
        'video id 1, annotation id 11, frame 3: segmentation, box or area of a wrong type',
    ),
    'mask of a number': (set_frame(0, 3, segmentations=7), 'frame 3: .* of a wrong type'),
    'no annotations list': (lambda content: content.pop('annotations'), 'no list "annotations"'),
    'no videos': (
        lambda content: [content[key].clear() for key in ('videos', 'annotations')],
        '0 of 0 videos left',
    ),
    'no videos left': (
        lambda content: content['annotations'].clear(),
        '0 of 3 videos left: 3 without a usable annotation.*looked for in .*JPEGImages',
    ),
    'videos too small': (
        lambda content: [
            content['annotations'].clear(),
            *(video.update(height=20) for video in content['videos']),
        ],
        '3 with a side under 32 px',
    ),
}

#: Faults that only training minds: tests need no annotations, and leave no video out.
OF_TRAINING = ('no annotations list', 'no videos', 'no videos left', 'videos too small')
