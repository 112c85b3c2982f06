"""Schedule, noising, and the way back with a stand-in and with the real head."""

import torch

from isda_suite.methods.idip.diffusion import DiffusionSchedule, add_noise, sample_boxes
from isda_suite.methods.idip.options import InferenceOptions
from isda_suite.methods.idip.randomness import RecordedNoise
from tests.golden.idip.models import feats_of, model_of
from tests.methods.idip.build import inference_config


def steps_as_results(steps):
    """Name what was recorded of a way back with one image."""
    last = steps[-1]
    return {
        't': torch.tensor([step.time for step in steps]),
        'x': torch.stack([step.signal[0] for step in steps]),
        'in': torch.stack([step.boxes_in[0] for step in steps]),
        'out_boxes': torch.stack([step.boxes[0] for step in steps]),
        'max_logit': torch.stack([step.logits[0].amax(-1) for step in steps]),
        'keep': torch.stack([step.kept[0] for step in steps]),
        'logits': last.logits[0],
        'feat': last.features[0],
    }


def _schedule(c):
    return DiffusionSchedule(c['diffusion_steps'], c['signal_scale'])


def _run_schedule(case, inputs):
    schedule = _schedule(case.config)
    return {
        name: schedule.alphas_cumprod if 'cumprod' in name else schedule.alphas
        for name in case.outputs
    }


def _run_to_boxes(case, inputs):
    schedule, signal = _schedule(case.config), torch.from_numpy(inputs['signal'])
    size = tuple(case.config['image_size'])
    return {
        name: schedule.to_boxes(signal, size if 'abs' in name else None) for name in case.outputs
    }


def _run_noising(case, inputs):
    choices = [inputs['keep']] if 'keep' in inputs else []
    noise = RecordedNoise(inputs['noise'], inputs['t'], choices)
    boxes, time = add_noise(
        torch.from_numpy(inputs['gt_boxes']), tuple(case.config['image_size']),
        case.config['num_proposals'], noise, _schedule(case.config),
    )  # fmt: skip
    assert time == int(inputs['t'][0])
    return dict.fromkeys(case.outputs, boxes)


def _run_stand_in(case, inputs):
    c = case.config
    schedule = _schedule(c)
    if 'noise' not in inputs:  # times alone
        times = [now for now, _ in schedule.sampling_times(c['sampling_steps'])]
        return dict.fromkeys(case.outputs, torch.tensor(times))
    answers = iter(zip(inputs['head_logits'], inputs['head_boxes'], strict=True))

    def head(boxes, times):
        logits, predicted = (torch.from_numpy(value)[None] for value in next(answers))
        return logits, predicted, logits

    options = InferenceOptions.of(inference_config(c), c['diffusion_steps'])
    noises = [RecordedNoise(inputs['noise'])]
    sizes = [tuple(c['image_size'])]
    steps = list(sample_boxes(head, sizes, noises, c['num_proposals'], schedule, options))
    return _by_suffix(case, steps_as_results(steps))


def _run_real_head(case, inputs):
    model = model_of(case)
    metas = [dict(img_shape=tuple(case.config['image_size']))]
    noises = [RecordedNoise(inputs['noise'])]
    steps = list(model.sample(feats_of(inputs), metas, noises))
    return _by_suffix(case, steps_as_results(steps))


def _by_suffix(case, results):
    return {name: results[name.removeprefix(f'{case.name}_')] for name in case.outputs}


def run_diffusion(golden, case):
    """Run the part that the case's name starts with."""
    runners = {
        'schedule': _run_schedule,
        'to_abs': _run_to_boxes,
        'noising': _run_noising,
        'stub': _run_stand_in,
        'dd': _run_real_head,
    }
    runner = next(run for name, run in runners.items() if case.name.startswith(name))
    return runner(case, case.inputs())
