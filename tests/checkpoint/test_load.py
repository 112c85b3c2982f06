import pytest
import torch
from torch import nn

from isda_suite.checkpoint.errors import CheckpointError, UnsafeCheckpointError
from isda_suite.checkpoint.load import load_into
from tests.checkpoint.probes import write_probes


class Detector(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.backbone = nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)])
        self.fc_cls = nn.Linear(4, num_classes)


def _save(model, path, **meta):
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, path)
    return path


def test_a_matching_file_fills_everything(tmp_path):
    torch.manual_seed(0)
    file = _save(Detector(3), tmp_path / 'a.pth', epoch=4)
    model = Detector(3)
    report = load_into(model, file)
    assert report.complete and len(report.matched) == 8 and report.meta == {'epoch': 4}
    saved = torch.load(file)['state_dict']
    assert all(torch.equal(v, saved[k]) for k, v in model.state_dict().items())


def test_a_prefix_of_distributed_training_is_dropped():
    state = {f'module.{k}': v for k, v in Detector(3).state_dict().items()}
    assert load_into(Detector(3), {'state_dict': state}).complete
    assert load_into(Detector(3), state).complete


def test_another_class_count_is_explained(tmp_path):
    file = _save(Detector(3), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError) as error:
        load_into(Detector(5), file)
    text = str(error.value)
    for part in (
        str(file),
        '6 entries matched',
        '2 of another shape',
        '3 outputs',
        '5 in the model',
    ):
        assert part in text
    assert 'num_classes' in text and '--num-classes 5' in text and '(3, 4) -> (5, 4)' in text


def test_fine_tuning_keeps_what_fits_and_lists_the_rest(tmp_path):
    donor, model = Detector(3), Detector(5)
    old = model.fc_cls.weight.clone()
    report = load_into(model, _save(donor, tmp_path / 'a.pth'), strict=False)
    assert [m.name for m in report.mismatched] == ['fc_cls.weight', 'fc_cls.bias']
    assert torch.equal(model.fc_cls.weight, old)
    assert torch.equal(model.backbone[0].weight, donor.backbone[0].weight)
    assert 'fc_cls.weight' in str(report) and '(3, 4) -> (5, 4)' in str(report)


@pytest.mark.parametrize('strict', [True, False])
def test_weights_of_another_model_are_an_error(strict):
    other = {f'encoder.{i}.weight': torch.zeros(2) for i in range(9)}
    with pytest.raises(CheckpointError) as error:
        load_into(Detector(3), other, strict=strict)
    text = str(error.value)
    assert '0 entries matched, 8 missing, 9 unexpected' in text
    assert 'encoder.4.weight, ... (9 in all)' in text and 'encoder.5.weight' not in text


def test_a_file_without_tensors_is_an_error(tmp_path):
    torch.save({'state_dict': {}, 'meta': {}}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='holds no tensors; its keys are state_dict, meta'):
        load_into(Detector(3), tmp_path / 'a.pth', strict=False)


def test_counters_of_batch_norm_may_be_absent():
    model = nn.BatchNorm2d(3)
    state = {k: v for k, v in model.state_dict().items() if 'num_batches' not in k}
    assert load_into(model, state).complete


@pytest.mark.parametrize(
    'found, message',
    [
        (('cat', 'dog'), None),
        (('dog', 'cat'), "another order.*number 0 is 'dog'.*'cat'"),
        (('cat', 'cow'), 'only in the checkpoint: cow; only in the data: dog'),
    ],
)
@pytest.mark.parametrize('place', ['dataset_meta', 'CLASSES'])
def test_class_names_are_compared(tmp_path, found, message, place):
    meta = {'CLASSES': found} if place == 'CLASSES' else {'dataset_meta': {'classes': found}}
    file = _save(Detector(2), tmp_path / 'a.pth', **meta)
    model = Detector(2)
    model.dataset_meta = {'classes': ('cat', 'dog')}
    if message is None:
        assert load_into(model, file).classes == found
    else:
        with pytest.raises(CheckpointError, match=message):
            load_into(model, file)
        assert load_into(model, file, strict=False).classes == found
        with pytest.raises(CheckpointError, match=message):
            load_into(Detector(2), file, classes=['cat', 'dog'])


def test_code_in_the_file_is_refused(tmp_path):
    trace = tmp_path / 'ran'
    for file in write_probes(tmp_path, trace)[:3]:
        with pytest.raises(UnsafeCheckpointError):
            load_into(nn.Linear(2, 1), file)
    assert not trace.exists()
