"""IDIP's adapter leaves BatchNorm alone; the laws of all adapters are tested with IUQ."""

import torch

from isda_suite.layers.query_adapter import find_adapter
from tests.methods.idip.build import small_idip
from tests.methods.iuq.build import batch_of, build_iuq, build_plain


def test_with_frozen_statistics_the_term_of_the_only_stage_is_the_mask_loss():
    torch.manual_seed(0)
    changes = {'roi_head.num_stages': 1, 'roi_head.mask_head.norm_eval': True}
    model = small_idip(**changes).train()
    adapter = find_adapter(model)
    inputs, samples = batch_of()
    with adapter.record(model, samples) as records:
        losses = model.loss(inputs, samples)
    logits = [adapter.respond_map(record, record.pixels) for record in records]
    torch.testing.assert_close(adapter.mask_loss(records, logits), losses['loss_mask'])


def test_responses_do_not_move_the_statistics_of_the_mask_head():
    plain, iuq = build_plain('idip'), build_iuq('idip', equivariance=False)
    for model in (plain, iuq):
        for number in range(2):
            torch.manual_seed(number)
            losses = model.loss(*batch_of(first_id=2 * number))
    assert float(losses['loss_unique'].detach()) > 0
    own, expected = dict(iuq.named_buffers()), dict(plain.named_buffers())
    assert own.keys() == expected.keys()
    assert all(torch.equal(value, own[name]) for name, value in expected.items())
    head = iuq.roi_head.mask_head
    assert head.with_cp and all(module.training for module in head.modules())
