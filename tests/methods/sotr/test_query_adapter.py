"""SOTR's adapter judges masks as the head does; the laws of all adapters are tested with IUQ."""

import pytest
import torch

from isda_suite.layers.query_adapter import find_adapter
from tests.methods.iuq.build import batch_of, sample_of
from tests.methods.sotr.build import small_sotr


@pytest.mark.parametrize('mask_avg', ['targets', 'cells'])
def test_the_mask_loss_is_a_mean_over_what_the_head_takes(mask_avg):
    """Two objects lie in the same cells, so that targets are more than cells."""
    torch.manual_seed(0)
    model = small_sotr(3, mask_avg=mask_avg).train()
    inputs, _ = batch_of(num_images=1)
    boxes = [[20, 30, 60, 70], [20, 30, 60, 70], [70, 70, 100, 120]]
    samples = [sample_of(boxes, [0, 1, 2], (128, 128), 0)]
    adapter = find_adapter(model)
    with adapter.record(model, samples) as records:
        losses = model.loss(inputs, samples)
    logits = [adapter.respond_map(record, record.pixels) for record in records]
    torch.testing.assert_close(adapter.mask_loss(records, logits), losses['loss_mask'])
    assert len(records[0].queries) > records[0].context['num_cells'] > 0
    assert set(records[0].gt_inds.tolist()) >= {0, 2}
