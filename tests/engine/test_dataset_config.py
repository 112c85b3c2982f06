from isda_suite.engine.dataset_config import innermost_dataset


def test_the_data_set_inside_wrappers_counts():
    inner = {'type': 'CocoDataset'}
    wrapped = {'type': 'RepeatDataset', 'dataset': {'type': 'ConcatDataset', 'datasets': [inner]}}
    assert innermost_dataset(wrapped) is inner
