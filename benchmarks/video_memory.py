"""Memory of whole-video inference over the length of the video.

    python benchmarks/video_memory.py --out benchmarks/results/video_memory

Each length runs in a process of its own, which has predicted one clip before: what it takes above
that at its peak. Frames are made when they are read, predicted in clips, drawn, and written into a
video file, as demo/video_demo.py does; once with the tracks forgotten when they end, and once with
every run-length code kept for a results file. Large blocks of memory are given back when they are
freed (environment variables of the C library), so that the peak is what is held. Without --config a
small DefVisTR with random weights is measured: its clips are as long as the published ones, its
maps and widths small.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

#: Axes as published (36 frames, 8 instances); widths and layers small.
SMALL_MODEL = """
default_scope = 'mmdet'
model = dict(
    type='isda_suite.DefVisTR', variant='instance_token', num_frames=36, num_instances=8,
    backbone=dict(
        type='ResNet', depth=18, base_channels=16, num_stages=4, out_indices=(0, 1, 2, 3),
        norm_eval=True, style='pytorch'),
    transformer=dict(
        in_channels=128, embed_dims=96, num_heads=4, num_points=4, feedforward_channels=128,
        encoder_layers=2, decoder_layers=2),
    head=dict(
        type='isda_suite.DefVisTRHead', num_classes=40,
        mask_branch=dict(in_channels=(16, 32, 64), num_groups=2, num_clip_groups=1)),
    data_preprocessor=dict(
        type='TrackDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True, pad_mask=True, pad_size_divisor=1))
pipeline = [
    dict(type='TransformBroadcaster', transforms=[
        dict(type='isda_suite.LoadImage'), dict(type='isda_suite.ResizeShortSide', scale=64)]),
    dict(type='isda_suite.PackClipInputs')]
test_dataloader = dict(dataset=dict(
    type='isda_suite.YouTubeVISClipDataset', clip_len=36, overlap=6, test_mode=True,
    data_root='', ann_file='', metainfo=dict(classes=[f'class {n}' for n in range(40)]),
    pipeline=pipeline))
"""
SIZE_HW = (384, 512)
#: Blocks from 64 kB on go back to the system when they are freed. By default the C library keeps
#: some of them in pieces for later, which makes peaks of one program differ by 20 MB and more.
ALLOCATOR = {'MALLOC_MMAP_THRESHOLD_': '65536', 'MALLOC_TRIM_THRESHOLD_': '65536'}
KINDS = {'frames': 'frames drawn', 'tracks': 'frames drawn and tracks kept'}


def frames_of(length: int) -> Iterator[np.ndarray]:
    """Make frames of noise with a bright square that moves."""
    generator = np.random.default_rng(0)
    background = generator.integers(0, 120, (*SIZE_HW, 3), dtype=np.uint8)
    for number in range(length):
        frame = background.copy()
        left = 10 + 3 * number % (SIZE_HW[1] - 180)
        frame[100:260, left : left + 160] = (60, 200, 240)
        yield frame


def load(args: argparse.Namespace) -> Any:
    """Build the model of the arguments."""
    from mmengine.config import Config

    from isda_suite.apis.model import load_model

    torch.manual_seed(0)
    config = args.config or Config.fromstring(SMALL_MODEL, '.py')
    return load_model(config, args.checkpoint, device='cpu')


def measure_one(args: argparse.Namespace) -> dict[str, Any]:
    """Predict one video in this process."""
    from isda_suite.apis.video import predict_video
    from isda_suite.apis.videos.clip_pipeline import clip_length
    from isda_suite.apis.videos.pictures import draw_video
    from isda_suite.engine.memory import peak_of

    model = load(args)

    def predict(length: int) -> Any:
        prediction = predict_video(
            model, frames_of(length), keep_tracks=args.kind == 'tracks', progress=False
        )
        with tempfile.TemporaryDirectory() as folder:
            draw_video(model, prediction, Path(folder) / 'out.mp4')
        return prediction

    predict(clip_length(model) or 1)
    prediction, peak = peak_of(lambda: predict(args.length))
    if peak is None:
        raise SystemExit('this kernel does not tell the peak of a process')
    codes = [mask for masks in prediction.tracks.masks for mask in masks if mask is not None]
    return {
        'kind': args.kind,
        'frames': prediction.num_frames,
        'peak_mb': round(peak / 2**20, 1),
        'tracks': len(prediction.tracks.scores),
        'codes_mb': round(sum(len(code['counts']) for code in codes) / 2**20, 2),
    }


def measure_all(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every length and kind in a process of its own."""
    rows, running = [], []
    for kind in KINDS:
        for length in args.lengths:
            command = [sys.executable, __file__, '--kind', kind, '--length', str(length)]
            command += ['--threads', str(args.threads)]
            for name in ('config', 'checkpoint'):
                if getattr(args, name):
                    command += [f'--{name}', getattr(args, name)]
            # They run side by side: memory is that of each process, and no time is claimed.
            running.append(
                subprocess.Popen(
                    command, stdout=subprocess.PIPE, text=True, env={**os.environ, **ALLOCATOR}
                )
            )
    for process in running:
        output, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f'{process.args} ended with {process.returncode}')
        rows.append(json.loads(output.splitlines()[-1]))
        print(rows[-1], flush=True)
    return rows


def table(content: dict[str, Any]) -> str:
    """Put the rows into a page."""
    lines = [
        '# Memory over the length of a video',
        '',
        f'`python benchmarks/video_memory.py`: {content["model"]}, frames of {SIZE_HW[0]} x '
        f'{SIZE_HW[1]} pixels, {content["threads"]} thread(s) of {content["machine"]}, Python '
        f'{content["python"]}, torch {content["torch"]}, {content["date"]}. Peak above what the '
        'process held after one clip.',
        '',
        '| what | frames | peak MB | run-length codes MB | tracks |',
        '| --- | --- | --- | --- | --- |',
    ]
    for row in content['rows']:
        kept = row['kind'] == 'tracks'
        codes, tracks = (row['codes_mb'], row['tracks']) if kept else ('', '')
        lines.append(
            f'| {KINDS[row["kind"]]} | {row["frames"]} | {row["peak_mb"]} | {codes} | {tracks} |'
        )
    return '\n'.join(lines) + '\n'


def draw(rows: Sequence[dict[str, Any]], stem: Path) -> None:
    """Write the curves as ``stem``.png and .svg."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    # The same results give the same file.
    plt.rcParams['svg.hashsalt'] = 'isda_suite'
    plt.rcParams['svg.fonttype'] = 'none'
    figure, axis = plt.subplots(figsize=(7, 3.6))
    for kind, colour in zip(KINDS, ('#0b6e4f', '#e07a5f'), strict=True):
        part = [row for row in rows if row['kind'] == kind]
        lengths, peaks = ([row[name] for row in part] for name in ('frames', 'peak_mb'))
        axis.plot(lengths, peaks, marker='o', color=colour, label=KINDS[kind])
        for place in zip(lengths, peaks, strict=True):
            axis.annotate(
                f'{place[1]:.0f}', place, textcoords='offset points', ha='center',
                xytext=(0, 7 if kind == 'tracks' else -14), fontsize=8, color=colour,
            )  # fmt: skip
    axis.set_xscale('log')
    axis.set_xticks(sorted({row['frames'] for row in rows}))
    axis.get_xaxis().set_major_formatter(matplotlib.ticker.ScalarFormatter())
    axis.minorticks_off()
    axis.set_ylim(0, 1.3 * max(row['peak_mb'] for row in rows))
    axis.set_xlabel('frames of the video, logarithmic')
    axis.set_ylabel('peak in MB')
    axis.legend(frameon=False, loc='upper left')
    for side in ('top', 'right'):
        axis.spines[side].set_visible(False)
    figure.tight_layout()
    for ending in ('.png', '.svg'):
        metadata = {'Date': None} if ending == '.svg' else {'Software': None}
        figure.savefig(stem.with_suffix(ending), dpi=110, metadata=metadata)
    plt.close(figure)


def report(args: argparse.Namespace) -> None:
    """Measure, print, and write table and curve."""
    content = {
        'model': args.config or 'a small DefVisTR (36 frames a clip, overlap 6), random weights',
        'threads': args.threads,
        'machine': f'{platform.machine()}, {os.cpu_count()} cores',
        'python': platform.python_version(),
        'torch': torch.__version__,
        'date': time.strftime('%Y-%m-%d'),
        'rows': measure_all(args),
    }
    print(table(content))
    if args.out:
        args.out.with_suffix('.json').write_text(json.dumps(content, indent=1) + '\n')
        args.out.with_suffix('.md').write_text(table(content))
        draw(content['rows'], args.out)


def main() -> None:
    """Measure one video, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--lengths', type=int, nargs='+', default=[36, 360, 3600])
    parser.add_argument('--config', help='default: a small model')
    parser.add_argument('--checkpoint', help='default: random weights')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--out', type=Path, help='files without suffix: .json, .md, .png, .svg')
    parser.add_argument('--kind', choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument('--length', type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.kind:
        print(json.dumps(measure_one(args)))
    else:
        report(args)


if __name__ == '__main__':
    main()
