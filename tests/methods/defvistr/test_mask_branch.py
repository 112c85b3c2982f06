"""The mask branch against a plainly written form: every pair of slot and frame on its own."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d

from isda_suite.layers.errors import ModelConfigError
from isda_suite.methods.defvistr.clip_mask_head import DilatedConv3d
from isda_suite.methods.defvistr.mask_branch import MaskBranch

B, K, T, C, HEADS = 2, 3, 4, 128, 8
SIZES = ((16, 19), (8, 10), (4, 5), (2, 3))  # odd sizes: a finer map need not be twice the coarser
WIDTHS = (12, 20, 28)


def make_branch(**options):
    torch.manual_seed(0)
    branch = MaskBranch(C, HEADS, WIDTHS, **options)
    with torch.no_grad():
        for name, parameter in branch.named_parameters():
            # Zeros and ones of the initialisation would hide offsets, biases and affine maps.
            parameter.add_(torch.randn_like(parameter) * (0.3 if 'offset' in name else 0.1))
    return branch.double()  # which leaves no room for another formula


def make_inputs():
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    feats = [normal(B * T, c, *size) for c, size in zip(WIDTHS, SIZES, strict=False)]
    padding = torch.zeros(B, T, *SIZES[3], dtype=torch.bool)
    padding[0, :, :, 2:] = True
    padding[1, :, 1:] = True
    return normal(B, K, T, C), normal(B, T, C, *SIZES[3]), feats, padding


def literal_pair(branch, query, memory, feats, padding):
    """Features of one slot in one frame, step by step as the method is described."""
    attention, head = branch.bbox_attention, branch.mask_head
    q = attention.q_linear(query).view(HEADS, -1)
    k = attention.k_linear(memory.flatten(1).T).view(-1, HEADS, C // HEADS)
    logits = torch.einsum('md,pmd->mp', q, k) / (C // HEADS) ** 0.5
    logits[:, padding.flatten()] = float('-inf')
    maps = logits.flatten().softmax(0).view(HEADS, *memory.shape[1:])

    x = torch.cat([memory, maps])[None]
    x = F.relu(head.gn1(head.lay1(x)))
    x = F.relu(head.gn2(head.lay2(x)))
    x = head.adapter1(feats[2][None]) + F.interpolate(x, size=feats[2].shape[1:])
    x = F.relu(head.gn3(head.lay3(x)))
    x = head.adapter2(feats[1][None]) + F.interpolate(x, size=feats[1].shape[1:])
    x = F.relu(head.gn4(head.lay4(x)))
    x = head.adapter3(feats[0][None]) + F.interpolate(x, size=feats[0].shape[1:])
    x = deform_conv2d(x, head.conv_offset(x), head.dcn.weight, padding=1)
    return F.relu(head.gn5(x))[0]


def literal(branch, queries, memory, feats, padding):
    clips = []
    for b in range(B):
        for k in range(K):
            frames = [
                literal_pair(
                    branch,
                    queries[b, k, t],
                    memory[b, t],
                    [f[b * T + t] for f in feats],
                    padding[b, t],
                )
                for t in range(T)
            ]
            x = torch.stack(frames, 1)[None]
            for n, layer in enumerate(branch.insmask_head):
                x = F.relu(x) if n % 3 == 2 else layer(x)
            clips.append(x[0, 0])
    return torch.stack(clips).unflatten(0, (B, K))


def gradients(branch, inputs, masks, cotangent):
    queries, memory, feats, _ = inputs
    leaves = [*branch.parameters(), queries, memory, *feats]
    return torch.autograd.grad((masks * cotangent).sum(), leaves)


def cotangent_of(masks):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(masks.shape, generator=generator, dtype=torch.float64)


def assert_equal(got, expected):
    """Equal up to the order of sums."""
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize('frames', [1, 2, 3, 6])
def test_the_convolution_over_the_clip_is_the_dilated_one(frames):
    """Also for clips shorter than its reach."""
    torch.manual_seed(0)
    layer = DilatedConv3d(3, 2).double()
    x = torch.randn(2, 3, frames, 7, 6, dtype=torch.float64, requires_grad=True)
    expected = F.conv3d(x, layer.weight, layer.bias, padding=2, dilation=2)
    assert_equal(layer(x), expected)
    leaves, cotangent = (x, layer.weight, layer.bias), cotangent_of(expected)
    assert_equal(
        torch.autograd.grad(layer(x), leaves, cotangent),
        torch.autograd.grad(expected, leaves, cotangent),
    )


@pytest.fixture(scope='module')
def expected():
    """Masks and gradients of the plain form."""
    branch, inputs = make_branch(), make_inputs()
    masks = literal(branch, *inputs)
    return masks.detach(), gradients(branch, inputs, masks, cotangent_of(masks))


@pytest.mark.parametrize('with_cp', [True, False])
@pytest.mark.parametrize('chunk_size', [1, 2, 7, None])
def test_masks_and_gradients_equal_the_plain_form(expected, chunk_size, with_cp):
    branch, inputs = make_branch(chunk_size=chunk_size, with_cp=with_cp), make_inputs()
    masks = branch(*inputs)
    assert_equal(masks, expected[0])
    assert_equal(gradients(branch, inputs, masks, cotangent_of(masks)), expected[1])
    with torch.no_grad():
        assert_equal(branch(*inputs), expected[0])


def test_attention_sums_to_one_over_all_heads_and_is_zero_at_padding():
    branch, (queries, memory, _, padding) = make_branch(), make_inputs()
    maps = branch.bbox_attention(queries, memory, padding)
    assert maps.shape == (B, K, T, HEADS, *SIZES[3])
    torch.testing.assert_close(maps.sum((3, 4, 5)), torch.ones(B, K, T).double())
    hidden = padding[:, None, :, None].expand_as(maps)
    assert hidden.any() and (maps[hidden] == 0).all()


def test_memory_at_padding_takes_no_part_in_the_attention():
    branch, (queries, memory, _, padding) = make_branch(), make_inputs()
    changed = torch.where(padding[:, :, None], memory * 50, memory)
    before = branch.bbox_attention(queries, memory, padding)
    torch.testing.assert_close(branch.bbox_attention(queries, changed, padding), before)


def test_a_frame_that_is_all_padding_gives_numbers_and_finite_gradients():
    branch, (queries, memory, feats, padding) = make_branch(), make_inputs()
    padding[0, 1] = True
    masks = branch(queries, memory, feats, padding)
    masks.sum().backward()
    assert masks.isfinite().all() and queries.grad.isfinite().all()


SELECTIONS = {
    'in order': [(0, 0), (0, 2), (1, 1)],
    'against it': [(1, 2), (0, 1), (1, 0), (1, 0)],
    'one clip only': [(1, 2)],
}


@pytest.mark.parametrize('rows', SELECTIONS.values(), ids=SELECTIONS)
@pytest.mark.parametrize('chunk_size', [1, 2])
def test_selected_slots_give_the_masks_and_gradients_they_have_among_all(rows, chunk_size):
    branch, inputs = make_branch(chunk_size=chunk_size), make_inputs()
    every = branch(*inputs)
    picked = torch.stack([every[b, k] for b, k in rows])
    chosen = branch(*inputs, select=torch.tensor(rows))
    assert_equal(chosen, picked)
    cotangent = cotangent_of(picked)
    expected = gradients(branch, inputs, picked, cotangent)
    assert_equal(gradients(branch, inputs, chosen, cotangent), expected)


@pytest.mark.parametrize('with_cp', [True, False])
def test_no_selected_slot_still_reaches_every_parameter(with_cp):
    """A rank whose clip has no instance must take part in the gradient exchange."""
    branch, inputs = make_branch(with_cp=with_cp), make_inputs()
    masks = branch(*inputs, select=torch.zeros(0, 2, dtype=torch.int64))
    assert masks.shape == (0, T, *SIZES[0])
    masks.sum().backward()
    assert all(p.grad is not None and (p.grad == 0).all() for p in branch.parameters())
    assert inputs[0].grad is not None and (inputs[0].grad == 0).all()


def test_a_branch_without_slots_still_reaches_every_parameter():
    branch, (queries, *rest) = make_branch(), make_inputs()
    masks = branch(queries[:, :0], *rest)
    assert masks.shape == (B, 0, T, *SIZES[0])
    masks.sum().backward()
    assert all(p.grad is not None for p in branch.parameters())


@pytest.mark.parametrize('with_cp', [True, False])
def test_autocast_stays_near_and_normalises_in_float32(with_cp, monkeypatch):
    branch = make_branch(with_cp=with_cp).float()
    queries, memory, feats, padding = make_inputs()
    inputs = (queries.float(), memory.float(), [feat.float() for feat in feats], padding)
    exact = branch(*inputs).detach()
    seen = []
    norm = F.group_norm
    monkeypatch.setattr(F, 'group_norm', lambda x, *a: seen.append(x.dtype) or norm(x, *a))
    with torch.autocast('cpu', torch.bfloat16):
        rough = branch(*inputs)
    assert rough.dtype == torch.float32 and set(seen) == {torch.float32}
    assert 0 < float((rough.detach() - exact).abs().mean()) < 0.05 * float(exact.abs().mean())
    assert rough.isfinite().all()
    rough.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in branch.parameters())


def test_channels_last_maps_are_taken(expected):
    branch, (queries, memory, feats, padding) = make_branch(), make_inputs()
    branch.mask_head.to(memory_format=torch.channels_last)
    feats = [feat.to(memory_format=torch.channels_last) for feat in feats]
    memory = memory.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (B, T))
    assert_equal(branch(queries, memory, feats, padding), expected[0])


def test_a_chunk_keeps_nothing_for_the_backward_pass():
    """What is kept beyond the shared maps is one tensor of queries and one of masks a slot."""

    def kept(**options):
        branch, (queries, *rest) = make_branch(**options), make_inputs()
        sizes = {}

        def pack(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            masks = branch(queries.repeat(1, 4, 1, 1), *rest)
        assert masks.requires_grad
        return sum(sizes.values())

    assert kept() < 0.2 * kept(with_cp=False)


def test_it_starts_as_published():
    """A deformable convolution without offsets is an ordinary one."""
    branch = MaskBranch(C, HEADS, WIDTHS)
    zeros = {name for name, p in branch.named_parameters() if (p == 0).all() and 'gn' not in name}
    biases = {
        name
        for name, _ in branch.named_parameters()
        if name.endswith('bias') and not name.startswith(('insmask_head', 'mask_head.gn'))
    }
    norms = {'insmask_head.1.bias', 'insmask_head.4.bias', 'insmask_head.7.bias'}
    assert zeros == biases | norms | {'mask_head.conv_offset.weight'}


def test_the_published_size_has_the_published_names_and_shapes():
    shapes = {name: tuple(p.shape) for name, p in MaskBranch().named_parameters()}
    assert shapes['mask_head.lay1.weight'] == (392, 392, 3, 3)
    assert shapes['mask_head.dcn.weight'] == (24, 48, 3, 3)
    assert shapes['mask_head.conv_offset.weight'] == (18, 48, 1, 1)
    assert shapes['mask_head.adapter1.weight'] == (192, 1024, 1, 1)
    assert shapes['insmask_head.0.weight'] == (12, 24, 3, 3, 3)
    assert shapes['insmask_head.9.weight'] == (1, 12, 1, 1, 1)
    assert len(shapes) == 45


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (dict(embed_dims=96), 'multiple of 128 fits'),
        (dict(embed_dims=136, num_groups=1, num_clip_groups=1), 'multiple of 16, got 136'),
        (dict(embed_dims=128, num_heads=7), 'num_heads=7'),
        (dict(embed_dims=128, num_heads=4), r'embed_dims \+ num_heads'),
        (dict(chunk_size=0), 'chunk_size: expected a positive'),
        (dict(in_channels=(1, 2)), 'in_channels: expected'),
    ],
)
def test_numbers_that_do_not_fit_are_refused(options, said):
    with pytest.raises(ModelConfigError, match=said):
        MaskBranch(**options)


def test_other_groups_admit_other_dims():
    MaskBranch(96, 8, num_groups=2, num_clip_groups=3)
