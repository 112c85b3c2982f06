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
    'responses': ['responses', 'toy.py', '--checkpoint', 'FILE', '--out-dir', 'out'],
    'demo': ['demo', '--model', 'toy.py', '--weights', 'FILE', '--check'],
    'segment': ['segment', 'toy_segmentor.py', 'FILE', 'data/val', '--out-dir', 'out'],
    'publish': ['publish', 'FILE', 'out/toy'],
    'attention': ['attention', 'toy.py', 'FILE', 'data/val', '--out-dir', 'out'],
    'export': ['export', 'toy.py', 'FILE', '--size', '32', '32'],
    'convert': ['convert', 'FILE', 'out/ours.pth', '--method', 'isda'],
}
CONFIG_READERS = {
    'train': ['train', 'FILE'],
    'test': ['test', 'FILE', 'toy.pth'],
    'fps': ['fps', 'FILE'],
    'predict': ['predict', 'data/val', 'FILE', 'toy.pth'],
    'predict-video': ['predict-video', 'FILE', 'toy.pth', 'data/val', '--out', 'out'],
    'watch': ['watch', 'data/val', 'FILE', 'toy.pth'],
    'responses': ['responses', 'FILE', '--checkpoint', 'toy.pth', '--out-dir', 'out'],
    'demo': ['demo', '--model', 'FILE', '--weights', 'toy.pth', '--check'],
    'segment': ['segment', 'FILE', 'toy.pth', 'data/val', '--out-dir', 'out'],
    'export': ['export', 'FILE', 'toy.pth', '--size', '32', '32'],
    'check-data': ['check-data', 'FILE'],
    'browse': ['browse', 'FILE'],
    'fit': ['fit', 'FILE'],
    'attention': ['attention', 'FILE', 'toy.pth', 'data/val', '--out-dir', 'out'],
    'count': ['count', 'FILE', '--out', 'out/counts.json'],
    'print-config': ['print-config', 'FILE'],
    'convert': ['convert', 'detr.pth', 'out/ours.pth', '--method', 'isda', '--config', 'FILE'],
}
ANNOTATION_READERS = {
    'train': ['train', 'toy.py'],
    'test': ['test', 'toy.py', 'toy.pth'],
    'check-data': ['check-data', 'toy.py'],
    'browse': ['browse', 'toy.py', '--output-dir', 'out'],
    'responses': ['responses', 'toy.py', '--out-dir', 'out'],
}
OPTION_READERS = {
    **ANNOTATION_READERS,
    'fps': ['fps', 'toy.py'],
    'fit': ['fit', 'toy.py'],
    'predict': ['predict', 'data/val', 'toy.py', 'toy.pth'],
    'predict-video': ['predict-video', 'toy.py', 'toy.pth', 'data/val', '--out', 'out'],
    'watch': ['watch', 'data/val', 'toy.py', 'toy.pth'],
    'segment': ['segment', 'toy.py', 'toy.pth', 'data/val'],
    'attention': ['attention', 'toy.py', 'toy.pth', 'data/val'],
    'count': ['count', 'toy.py'],
    'export': ['export', 'toy.py', 'toy.pth', '--size', '32', '32'],
    'print-config': ['print-config', 'toy.py'],
    'sample-demo': ['sample-demo'],
}
RESULTS_READERS = {
    'results': ['eval-video', 'FILE', 'tracks.json'],
    'annotations': ['eval-video', 'results.json', 'FILE'],
    'analysed results': ['analyze', 'FILE', 'tracks.json', '--out', 'out/errors.html'],
    'analysed annotations': ['analyze', 'results.json', 'FILE', '--out', 'out/errors.html'],
    'logs': ['plot', 'FILE', '--out', 'out/logs.png'],
}
# SRC stands for a download in the command's own layout, `lists` for a folder of lists of names.
DOWNLOAD_READERS = {
    'deepglobe': ['prepare-deepglobe', 'SRC', 'out', '--lists', 'lists', '--workers', '1'],
    'inria': ['prepare-inria', 'SRC', 'out', '--lists', 'lists', '--workers', '1'],
}
# LABELS stands for a folder of files of the kind, or for the file.
LABEL_READERS = {
    'yolo': ['import-labels', 'yolo', 'LABELS', 'out.json', '--images', 'data/val'],
    'voc': ['import-labels', 'voc', 'LABELS', 'out.json', '--images', 'data/val'],
    'labelme': ['import-labels', 'labelme', 'LABELS', 'out.json', '--images', 'data/val'],
    'cvat': ['import-labels', 'cvat', 'LABELS/a.xml', 'out.json', '--images', 'data/val'],
}
