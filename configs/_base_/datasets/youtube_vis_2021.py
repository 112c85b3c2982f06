# YouTube-VIS 2021: other videos (up to 84 frames), 40 other classes in another order. Its files are
# called train/instances.json and valid/instances.json.
_base_ = './youtube_vis_2019.py'

data_root = 'data/youtube_vis_2021/'
# fmt: off
classes = (
    'airplane', 'bear', 'bird', 'boat', 'car', 'cat', 'cow', 'deer', 'dog', 'duck',
    'earless_seal', 'elephant', 'fish', 'flying_disc', 'fox', 'frog', 'giant_panda', 'giraffe',
    'horse', 'leopard', 'lizard', 'monkey', 'motorbike', 'mouse', 'parrot', 'person', 'rabbit',
    'shark', 'skateboard', 'snake', 'snowboard', 'squirrel', 'surfboard', 'tennis_racket',
    'tiger', 'train', 'truck', 'turtle', 'whale', 'zebra',
)
# fmt: on
metainfo = dict(classes=classes)

train_dataloader = dict(
    dataset=dict(data_root=data_root, metainfo=metainfo, ann_file='train/instances.json')
)
val_dataloader = dict(
    dataset=dict(data_root=data_root, metainfo=metainfo, ann_file='valid/instances.json')
)
test_dataloader = val_dataloader
