"""Linking the clips of a video, by hand-made squares."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from isda_suite.layers.errors import ModelConfigError
from isda_suite.methods.defvistr.linking import ClipLinker, summed_overlap
from isda_suite.methods.defvistr.postprocess import clip_tracks, encode_mask
from tests.methods.defvistr.clips import outputs

SIZE = (12, 40)


def square(x, frame, width=6):
    """A square that starts at column x and moves one column in four frames."""
    mask = np.zeros(SIZE, bool)
    left = x + frame // 4
    mask[2:8, left : left + width] = True
    return encode_mask(mask)


def clip(frames, *slots):
    """Instances from (place, label[, score[, frames it is in]]), a slot each."""
    slots = [(*slot, *(0.5, frames)[len(slot) - 2 :]) for slot in slots]
    empty = encode_mask(np.zeros(SIZE, bool))
    masks = [[square(x, t) if t in seen else empty for t in frames] for x, _, _, seen in slots]
    shape = (len(slots), len(frames))
    labels = torch.tensor([slot[1] for slot in slots], dtype=torch.long)
    scores = torch.tensor([slot[2] for slot in slots], dtype=torch.float64)
    return InstanceData(
        scores=scores.float(),
        labels=labels,
        masks=masks,
        frame_scores=scores[:, None].expand(shape),
        frame_labels=labels[:, None].expand(shape),
        frame_areas=torch.tensor(
            [[int(coco_mask.area(m)) for m in row] for row in masks], dtype=torch.long
        ).view(shape),
        frame_qualities=torch.ones(shape, dtype=torch.float64),
    )


def run(clips, overlap, **options):
    """Push clips of (frames, slots); return all frame results and the tracks."""
    linker = ClipLinker(overlap, **options)
    done = []
    for frames, slots in clips:
        done += linker.push(clip(frames, *slots), frames)
    rest, tracks = linker.finish()
    return done + rest, tracks


def places(track):
    """Left border of the mask of every frame; None for null."""
    return [None if m is None else int(coco_mask.toBbox(m)[0]) for m in track]


@pytest.mark.parametrize('overlap', [0, 1, 2, 3])
@pytest.mark.parametrize('score', ['mean_all', 'mean_shown', 'mean_times_mask_quality'])
def test_a_video_of_one_clip_has_exactly_the_results_of_the_clip(overlap, score):
    logits, _, masks = outputs(slots=4, frames=5)
    masks[0, 2] = -1
    options = dict(score=score, null_score=0.3)
    want = clip_tracks(logits[-1, 0], masks[0], 4, (30, 50), **options)
    assert len(want) == 3 and any(m is None for track in want.masks for m in track)
    linker = ClipLinker(overlap, score=score)
    done = linker.push(want, range(4))
    rest, tracks = linker.finish()
    assert torch.equal(tracks.scores, want.scores)
    assert torch.equal(tracks.labels, want.labels)
    assert tracks.masks == want.masks
    assert [one.frame for one in done + rest] == [0, 1, 2, 3]


def test_swapped_slots_are_linked_again():
    done, tracks = run(
        [
            (range(0, 6), [(2, 0), (20, 1)]),
            (range(4, 10), [(20, 1), (2, 0)]),
            (range(8, 14), [(2, 0), (20, 1)]),
        ],
        overlap=2,
    )
    assert tracks.labels.tolist() == [0, 1]
    assert tracks.ids.tolist() == [0, 1]
    assert places(tracks.masks[0]) == [2 + t // 4 for t in range(14)]
    assert places(tracks.masks[1]) == [20 + t // 4 for t in range(14)]
    assert [one.frame for one in done] == list(range(14))
    for one in done:
        by_id = dict(zip(one.ids.tolist(), places(one.masks), strict=True))
        assert by_id == {0: 2 + one.frame // 4, 1: 20 + one.frame // 4}


def test_objects_that_appear_and_disappear_begin_and_end_tracks():
    _, tracks = run(
        [(range(0, 6), [(2, 0)]), (range(4, 10), [(20, 1), (2, 0)]), (range(8, 14), [(20, 1)])],
        overlap=2,
    )
    assert places(tracks.masks[0]) == [2 + t // 4 for t in range(9)] + [None] * 5
    assert places(tracks.masks[1]) == [None] * 5 + [20 + t // 4 for t in range(5, 14)]


def test_a_frame_of_two_clips_belongs_to_that_in_which_it_is_nearer_to_the_middle():
    """Overlap 4 to 7: two frames each; scores tell the clips apart."""
    done, tracks = run([(range(0, 8), [(2, 0, 0.2)]), (range(4, 12), [(2, 0, 0.8)])], overlap=4)
    assert [one.scores.item() for one in done] == pytest.approx([0.2] * 6 + [0.8] * 6)
    assert tracks.scores.item() == pytest.approx(0.5)


def test_an_odd_frame_of_the_overlap_belongs_to_the_newer_clip():
    done, _ = run([(range(0, 8), [(2, 0, 0.2)]), (range(5, 13), [(2, 0, 0.8)])], overlap=3)
    assert [one.scores.item() for one in done] == pytest.approx([0.2] * 6 + [0.8] * 7)


def test_a_last_clip_that_overlaps_more_takes_only_frames_that_are_open():
    done, tracks = run([(range(0, 8), [(2, 0, 0.2)]), (range(2, 10), [(2, 0, 0.8)])], overlap=2)
    assert [one.frame for one in done] == list(range(10))
    assert [one.scores.item() for one in done] == pytest.approx([0.2] * 7 + [0.8] * 3)
    assert len(tracks) == 1


def test_all_common_frames_decide_about_a_link():
    """The object is empty in the regular overlap, but not in what the last clip shares beyond."""
    seen = range(0, 5)
    _, tracks = run(
        [(range(0, 8), [(2, 0, 0.5, seen)]), (range(2, 10), [(2, 0, 0.5, seen)])], overlap=2
    )
    assert len(tracks) == 1


def test_the_score_is_that_of_covered_frames_only():
    _, tracks = run([(range(0, 6), [(2, 0, 0.8)]), (range(4, 10), [])], overlap=2)
    assert tracks.scores.item() == pytest.approx(0.8)
    assert places(tracks.masks[0])[5:] == [None] * 5


def test_the_class_is_the_vote_of_all_frames():
    clips = [(range(0, 6), [(2, 3)]), (range(4, 10), [(2, 1)]), (range(8, 14), [(2, 1)])]
    done, tracks = run(clips, overlap=2)
    assert tracks.labels.tolist() == [1]
    assert done[0].labels.tolist() == [3] and done[-1].labels.tolist() == [1]


def test_a_class_that_agrees_decides_between_equal_masks():
    """Two slots of one clip claim the same object; so do two of the next, in the other order."""
    clips = [(range(0, 6), [(2, 0), (2, 1)]), (range(4, 10), [(2, 1), (2, 0)])]
    _, tracks = run(clips, overlap=2)
    assert tracks.labels.tolist() == [0, 1]
    done, tracks = run(clips, overlap=2, class_weight=0)
    assert len(tracks) == 2  # one to one: a duplicate takes no second track
    assert all(len(set(one.ids.tolist())) == 2 for one in done)


def test_masks_that_overlap_too_little_are_not_linked():
    """Squares of 6 columns, 4 apart: the overlap is 2 of 10 columns."""
    clips = [(range(0, 6), [(2, 0)]), (range(4, 10), [(6, 0)])]
    assert len(run(clips, overlap=2, iou_thr=0.3)[1]) == 2
    assert len(run(clips, overlap=2, iou_thr=0.1)[1]) == 1


def test_empty_masks_are_never_linked():
    clips = [(range(0, 6), [(2, 0, 0.5, [0])]), (range(4, 10), [(2, 0, 0.5, [9])])]
    assert len(run(clips, overlap=2, iou_thr=0.0)[1]) == 2


def test_a_track_without_pixels_in_its_frames_is_dropped():
    """The newer clip sees the object only in a frame that belongs to the older one."""
    done, tracks = run([(range(0, 6), []), (range(4, 10), [(2, 0, 0.5, [4])])], overlap=2)
    assert len(tracks) == 0 and len(tracks.masks) == 0
    assert all(len(one.ids) == 0 for one in done)


def test_without_overlap_every_clip_has_its_own_tracks():
    done, tracks = run([(range(0, 4), [(2, 0)]), (range(4, 8), [(2, 0)])], overlap=0)
    assert tracks.ids.tolist() == [0, 1]
    assert [one.frame for one in done] == list(range(8))


def test_frames_are_given_out_as_soon_as_no_clip_can_change_them():
    linker = ClipLinker(4)
    first = linker.push(clip(range(0, 8), (2, 0)), range(0, 8))
    second = linker.push(clip(range(4, 12), (2, 0)), range(4, 12))
    assert [one.frame for one in first] == list(range(6))
    assert [one.frame for one in second] == list(range(6, 10))


def test_a_video_longer_than_its_clips_is_null_at_the_end():
    linker = ClipLinker(2)
    linker.push(clip(range(0, 3), (2, 0)), range(0, 3))
    _, tracks = linker.finish(num_frames=5)
    assert places(tracks.masks[0]) == [2, 2, 2, None, None]


def count_stored(linker):
    """Numbers of run-length codes and of tracks a linker can still reach."""
    seen, codes, tracks, todo = set(), 0, 0, [linker]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, dict) and 'counts' in one:
            codes += 1
        elif isinstance(one, dict):
            todo += one.values()
        elif isinstance(one, (list, tuple)):
            todo += one
        elif hasattr(one, '__dict__') and not isinstance(one, torch.Tensor):
            tracks += hasattr(one, 'votes')
            todo += vars(one).values()
    return codes, tracks


def test_a_stream_of_fifty_clips_needs_the_memory_of_one():
    """The object jumps every few clips, so that tracks end and begin."""
    linker = ClipLinker(2, keep_tracks=False)
    stored, ids = [], set()
    for n in range(50):
        frames = range(4 * n, 4 * n + 6)
        one = clip(frames, (2, n % 3))
        one.masks = [[square(2 if n % 5 else 20, 0) for _ in frames]]
        for done in linker.push(one, frames):
            ids.update(done.ids.tolist())
        stored.append(count_stored(linker))
    assert stored == [(6, 1)] * 50
    assert len(ids) > 15
    assert len(linker.finish()[1]) == 0


def test_a_video_of_fifty_clips_keeps_one_code_per_frame():
    linker = ClipLinker(2)
    for n in range(50):
        frames = range(4 * n, 4 * n + 6)
        one = clip(frames, (2, 0))
        one.masks = [[square(2, 0) for _ in frames]]
        linker.push(one, frames)
        final = 4 * n + 5
        codes, tracks = count_stored(linker)
        # One frame is open; one is final from the clip before, and kept of this one too.
        assert codes <= final + 2 and tracks == 1
    _, tracks = linker.finish()
    assert len(tracks) == 1 and None not in tracks.masks[0] and len(tracks.masks[0]) == 202


def test_the_summed_overlap_is_that_of_pixels():
    rng = np.random.default_rng(0)
    first, second = rng.random((3, 4, *SIZE)) > 0.4, rng.random((2, 4, *SIZE)) > 0.6
    second[0, 1] = False
    codes = [[[encode_mask(m) for m in row] for row in masks] for masks in (first, second)]
    codes[0][1][2] = None
    first[1, 2] = False
    both = (first[:, None] & second[None]).sum((2, 3, 4))
    either = (first[:, None] | second[None]).sum((2, 3, 4))
    np.testing.assert_allclose(summed_overlap(*codes), both / either, rtol=1e-12)


@pytest.mark.parametrize(
    ('frames', 'text'),
    [
        ([6, 8], r'expected consecutive frames, got \[6, 8\]'),
        ([0, 1], r'expected frames after 2 to 3, got 0 to 1.*in order'),
        ([3], r'expected frames after 2 to 3, got 3 to 3'),
        ([4, 5, 6], r'expected instances of 3 frames, got 2'),
    ],
)
def test_clips_out_of_order_are_refused(frames, text):
    linker = ClipLinker(1)
    linker.push(clip([2, 3], (2, 0)), [2, 3])
    found = clip(frames[:2], (2, 0))
    with pytest.raises(ModelConfigError, match=text):
        linker.push(found, frames)


@pytest.mark.parametrize(
    'options', [dict(overlap=-1), dict(iou_thr=1.5), dict(class_weight=-1), dict(score='best')]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ModelConfigError, match=r'expected'):
        ClipLinker(**(dict(overlap=2) | options))
