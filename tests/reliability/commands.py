"""Which command reads which kind of file, as command lines in a folder of the toy segmenter.

FILE stands for the file in question. The folder holds `toy.py`, `toy.pth`, `data/` and, for
`convert`, `detr.pth`.
"""

CHECKPOINT_READERS = {
    'test': ['test', 'toy.py', 'FILE'],
    'resume': ['train', 'toy.py', '--resume', 'FILE'],
    'load_from': ['train', 'toy.py', '--cfg-options', 'load_from=FILE'],
    'init_cfg': [
        *('train', 'toy.py', '--cfg-options', '+model.init_cfg.type=Pretrained'),
        '+model.init_cfg.checkpoint=FILE',
    ],
    'fps': ['fps', 'toy.py', 'FILE', '--height', '32', '--width', '32', '--iters', '1'],
    'predict': ['predict', 'data/val', 'toy.py', 'FILE'],
    'publish': ['publish', 'FILE', 'out/toy'],
    'convert': ['convert', 'FILE', 'out/ours.pth', '--method', 'isda'],
}
CONFIG_READERS = {
    'train': ['train', 'FILE'],
    'test': ['test', 'FILE', 'toy.pth'],
    'fps': ['fps', 'FILE'],
    'predict': ['predict', 'data/val', 'FILE', 'toy.pth'],
    'check-data': ['check-data', 'FILE'],
    'browse': ['browse', 'FILE'],
    'print-config': ['print-config', 'FILE'],
    'convert': ['convert', 'detr.pth', 'out/ours.pth', '--method', 'isda', '--config', 'FILE'],
}
ANNOTATION_READERS = {
    'train': ['train', 'toy.py'],
    'test': ['test', 'toy.py', 'toy.pth'],
    'check-data': ['check-data', 'toy.py'],
    'browse': ['browse', 'toy.py', '--output-dir', 'out'],
}
OPTION_READERS = {
    **ANNOTATION_READERS,
    'fps': ['fps', 'toy.py'],
    'predict': ['predict', 'data/val', 'toy.py', 'toy.pth'],
    'print-config': ['print-config', 'toy.py'],
    'demo': ['demo'],
}
