"""A video cut into clips against the same video in one clip that is as long as it."""

import pytest
import torch

from isda_suite.datasets.clips import clip_starts
from isda_suite.methods.defvistr.linking import ClipLinker
from isda_suite.methods.defvistr.postprocess import clip_tracks

SIZE = (48, 80)


def moving_objects(slots, length, generator):
    """Outputs (K, L, ...) of objects that each keep to a band of rows; now and then one is gone."""
    logits = torch.randn(slots, length, 7, generator=generator)
    logits[torch.arange(slots), :, 1 + torch.arange(slots) % 5] += 3
    masks = torch.full((slots, length, 12, 20), -4.0)
    for k in range(slots):
        for t in range(length):
            left = (3 * k + t // 3) % 14
            if (t + 7 * k) % 11:
                masks[k, t, 3 * k : 3 * k + 3, left : left + 6] = 4.0
    return logits, masks + torch.randn(masks.shape, generator=generator)


@pytest.mark.parametrize(('length', 'overlap'), [(50, 3), (41, 4), (30, 1), (8, 3), (5, 3)])
def test_clips_with_shuffled_slots_give_the_tracks_of_one_long_clip(length, overlap):
    generator = torch.Generator().manual_seed(length)
    logits, masks = moving_objects(4, length, generator)
    options = dict(null_score=0.05, score='mean_times_mask_quality')
    want = clip_tracks(logits, masks, length, SIZE, **options)
    linker = ClipLinker(overlap, score='mean_times_mask_quality')
    shown = []
    for start in clip_starts(length, 8, overlap):
        part = slice(start, min(start + 8, length))
        order = torch.randperm(4, generator=generator)
        found = clip_tracks(
            logits[order, part], masks[order, part], part.stop - start, SIZE, **options
        )
        shown += linker.push(found, range(start, part.stop))
    rest, tracks = linker.finish(length)
    shown += rest
    order = [next(n for n, t in enumerate(tracks.masks) if t == one) for one in want.masks]
    assert sorted(order) == [0, 1, 2, 3]
    assert torch.equal(tracks.labels[order], want.labels)
    torch.testing.assert_close(tracks.scores[order], want.scores)
    assert [one.frame for one in shown] == list(range(length))
    for one in shown:
        for number, mask in zip(one.ids.tolist(), one.masks, strict=True):
            assert tracks.masks[tracks.ids.tolist().index(number)][one.frame] == mask
