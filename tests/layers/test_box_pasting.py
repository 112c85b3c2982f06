import torch

from isda_suite.layers.box_pasting import pasted_in_boxes


def test_a_map_lies_where_its_box_is_and_nothing_is_known_outside():
    values = torch.tensor([[[0.1, 0.9], [0.3, 0.5]]])
    pasted = pasted_in_boxes(values, torch.tensor([[2.0, 1.0, 4.0, 3.0]]), (4, 6))
    assert torch.allclose(pasted[0, 1:3, 2:4], values[0])
    outside = torch.ones(4, 6, dtype=torch.bool)
    outside[1:3, 2:4] = False
    assert torch.equal(pasted[0].isnan(), outside)


def test_values_do_not_fade_at_the_border_of_a_box():
    pasted = pasted_in_boxes(torch.ones(1, 7, 7), torch.tensor([[0.0, 0.0, 16.0, 16.0]]), (16, 16))
    assert torch.equal(pasted, torch.ones(1, 16, 16))


def test_no_boxes_and_a_box_without_area():
    assert pasted_in_boxes(torch.zeros(0, 2, 2), torch.zeros(0, 4), (4, 4)).shape == (0, 4, 4)
    assert pasted_in_boxes(torch.ones(1, 2, 2), torch.ones(1, 4), (4, 4)).isnan().all()
