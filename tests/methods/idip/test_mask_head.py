"""IDIP's mask head alone: recomputation, folded norms, instances in parts."""

import pytest
import torch

from isda_suite.methods.idip.mask_head import IDIPMaskHead


@pytest.mark.parametrize('batching', ['loop', 'grouped'])
def test_recomputation_changes_no_bit_and_statistics_learn_once(batching):
    """With a group of no instance between two others."""
    regions = torch.randn(70, 8, 4, 4, generator=torch.Generator().manual_seed(1))
    features, labels = regions.mean((2, 3)), torch.arange(70) % 3
    found = []
    for with_cp in (True, False):
        torch.manual_seed(0)
        head = IDIPMaskHead(3, 8, 4, roi_size=4, batching=batching, with_cp=with_cp).train()
        masks = head(regions, features, labels, [50, 0, 20])
        masks.sigmoid().mean().backward()
        found.append([masks, *head.buffers(), *(p.grad for p in head.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_recomputation_keeps_less_for_the_backward_pass():
    regions, features = torch.randn(40, 16, 7, 7), torch.randn(40, 16)
    kept = {}
    for with_cp in (True, False):
        head = IDIPMaskHead(3, 16, 4, roi_size=7, with_cp=with_cp).train()
        own = {p.untyped_storage().data_ptr() for p in head.parameters()}
        sizes = {}

        def keep(tensor, own=own, sizes=sizes):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            masks = head(regions, features, torch.arange(40) % 3, [20, 20])
        kept[with_cp] = sum(sizes.values())
        masks.sum().backward()
    assert kept[True] < 0.75 * kept[False]


@pytest.mark.parametrize('num_convs', [0, 4])
@pytest.mark.parametrize('with_labels', [True, False])
def test_folded_norms_and_instances_in_parts_change_masks_by_rounding_only(num_convs, with_labels):
    torch.manual_seed(0)
    head = IDIPMaskHead(3, 8, 4, num_convs, roi_size=4).eval()
    for name, value in head.named_buffers():
        if 'running' in name:
            value.copy_(torch.rand_like(value) + 0.5)
    regions, features, labels = torch.randn(70, 8, 4, 4), torch.randn(70, 8), torch.arange(70) % 3
    chosen = labels if with_labels else None
    with torch.no_grad():
        folded = head(regions, features, chosen)
    rows = [head(regions[i : i + 1], features[i : i + 1], labels[i : i + 1]) for i in range(70)]
    expected = torch.cat(rows)
    assert expected.requires_grad and not folded.requires_grad, 'gradients need every layer'
    found = folded if with_labels else folded[torch.arange(70), labels]
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-5)
