"""The built-in demonstration: make a data set, train on it, evaluate, draw."""

from pathlib import Path
from typing import Any

CONFIG = 'isda/isda_sample.py'
NUM_PICTURES = 12


def run_demo(
    out_dir: str | Path = 'demo_out',
    data_dir: str | Path = 'data/sample',
    cfg_options: dict[str, Any] | None = None,
    score_thr: float = 0.2,
) -> dict[str, Any]:
    """Train a small ISDA on the built-in sample, evaluate it and draw what it finds.

    An interrupted run goes on from its last checkpoint; a finished one is only evaluated and
    drawn again. Remove ``out_dir`` to start over.

    Args:
        out_dir: Gets ``train/`` (logs, checkpoints) and ``pictures/``.
        data_dir: Where the sample is written, if it is not there yet.
        cfg_options: Values to set in the configuration, by dotted key.
        score_thr: Detections with a lower score are not drawn, 0..1.

    Returns:
        The metrics by name.
    """
    from isda_suite.apis.test import evaluate
    from isda_suite.apis.train import train
    from isda_suite.datasets.sample import write_sample_coco
    from isda_suite.engine.launch import load_config

    load_config(CONFIG, cfg_options)  # a wrong option stops before the data is written
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)  # so does a file in its place
    data_root = write_sample_coco(data_dir, num_train=600, num_val=60)
    options = {'data_root': f'{data_root}/', **(cfg_options or {})}
    runner = train(CONFIG, work_dir=out_dir / 'train', resume='auto', seed=0, cfg_options=options)
    checkpoint = out_dir / 'train' / f'iter_{runner.iter}.pth'
    metrics = evaluate(
        CONFIG, checkpoint, eval=['segm'], cfg_options=options, work_dir=out_dir / 'test'
    )
    pictures = draw_results(runner.cfg, checkpoint, out_dir / 'pictures', score_thr)
    print(
        f'\ntrained weights: {checkpoint}\n'
        f'ground truth beside prediction: {pictures[0]} and {len(pictures) - 1} single pictures\n'
        f'training curves: tensorboard --logdir {out_dir / "train"}'
    )
    return metrics


def draw_results(cfg: Any, checkpoint: str | Path, folder: Path, score_thr: float) -> list[Path]:
    """Draw ground truth beside predictions for the first validation images.

    Args:
        cfg: The configuration of the run; its test data is drawn.
        checkpoint: Weights.
        folder: Gets ``overview.png`` and one picture an image.
        score_thr: Detections with a lower score are not drawn, 0..1.

    Returns:
        The files, the overview first.
    """
    import numpy as np
    from mmengine.registry import DATASETS, DefaultScope
    from tqdm import tqdm

    from isda_suite.apis.inference import predict
    from isda_suite.apis.model import load_model
    from isda_suite.datasets.image_file import read_image
    from isda_suite.visualization.instances import draw_side_by_side, instances_of
    from isda_suite.visualization.pictures import contact_sheet, save_picture

    model = load_model(cfg, checkpoint)
    classes: Any = vars(model)['dataset_meta']['classes']
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    infos = [dataset.get_data_info(i) for i in range(min(NUM_PICTURES, len(dataset)))]
    found = predict(model, [info['img_path'] for info in infos], progress=False)
    files, pictures = [], []
    for info, prediction in zip(tqdm(infos, desc='drawing'), found, strict=True):
        image = np.ascontiguousarray(read_image(info['img_path'])[..., ::-1])
        pred = prediction.pred_instances
        picture = draw_side_by_side(image, instances_of(info), pred, classes, score_thr)
        pictures.append(picture)
        files.append(save_picture(folder / f'{Path(info["img_path"]).stem}.png', picture))
    overview = contact_sheet(pictures, columns=3, cell_width=640)
    return [save_picture(folder / 'overview.png', overview), *files]
