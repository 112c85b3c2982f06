from isda_suite.apis.operators import operators_line


def test_one_line_names_operator_device_and_torch():
    import torch

    line = operators_line()
    assert 'ms_deform_attn' in line and f'torch {torch.__version__}' in line
    assert 'operators on cuda' in line if torch.cuda.is_available() else 'operators on cpu' in line
    assert '\n' not in line
