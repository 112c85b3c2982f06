"""Which command reads which kind of file, as command lines in a folder of the toy segmenter.

FILE stands for the file in question. The folder holds `toy.py`, `toy.pth`, `data/`,
`toy_segmentor.py` and, for `convert`, `detr.pth`.
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
    'predict-video': ['predict-video', 'toy.py', 'FILE', 'data/val', '--out', 'out'],
    'demo': ['demo', '--model', 'toy.py', '--weights', 'FILE', '--check'],
    'segment': ['segment', 'toy_segmentor.py', 'FILE', 'data/val', '--out-dir', 'out'],
    'publish': ['publish', 'FILE', 'out/toy'],
    'convert': ['convert', 'FILE', 'out/ours.pth', '--method', 'isda'],
}
CONFIG_READERS = {
    'train': ['train', 'FILE'],
    'test': ['test', 'FILE', 'toy.pth'],
    'fps': ['fps', 'FILE'],
    'predict': ['predict', 'data/val', 'FILE', 'toy.pth'],
    'predict-video': ['predict-video', 'FILE', 'toy.pth', 'data/val', '--out', 'out'],
    'watch': ['watch', 'data/val', 'FILE', 'toy.pth'],
    'demo': ['demo', '--model', 'FILE', '--weights', 'toy.pth', '--check'],
    'segment': ['segment', 'FILE', 'toy.pth', 'data/val', '--out-dir', 'out'],
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
    'predict-video': ['predict-video', 'toy.py', 'toy.pth', 'data/val', '--out', 'out'],
    'watch': ['watch', 'data/val', 'toy.py', 'toy.pth'],
    'segment': ['segment', 'toy.py', 'toy.pth', 'data/val'],
    'print-config': ['print-config', 'toy.py'],
    'sample-demo': ['sample-demo'],
}
RESULTS_READERS = {
    'results': ['eval-video', 'FILE', 'tracks.json'],
    'annotations': ['eval-video', 'results.json', 'FILE'],
}
# SRC stands for a download in the command's own layout, `lists` for a folder of lists of names.
DOWNLOAD_READERS = {
    'deepglobe': ['prepare-deepglobe', 'SRC', 'out', '--lists', 'lists', '--workers', '1'],
    'inria': ['prepare-inria', 'SRC', 'out', '--lists', 'lists', '--workers', '1'],
}
