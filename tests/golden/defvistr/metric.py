"""Runners of golden parts about evaluation: function(golden, case, tmp_path) -> results by name."""

from isda_suite.metrics.youtube_vis_evaluation import (
    evaluate_results,
    tracks_of_file,
    tracks_of_results,
    video_numbers,
)
from isda_suite.metrics.youtube_vis_tracks import sequence_ious


def _video_ap(golden, case, tmp_path):
    """Everything the evaluation of a results file computes."""
    inputs = case.inputs()
    content, entries = inputs['gt'], inputs['results']
    evaluation = evaluate_results(content, entries)
    results = {
        'stats': list(video_numbers(evaluation).values()),
        'precision': evaluation.precision,
        'recall': evaluation.recall,
    }
    annotated, found = tracks_of_file(content), tracks_of_results(entries, content)
    for name, output in case.outputs.items():
        if 'of' in output.spec:
            cell = output.spec['of']['video_id'], output.spec['of']['category_id']
            best_first = sorted(found[cell], key=lambda track: -track.score)
            results[name] = sequence_ious(best_first, annotated[cell])
    return results


RUNNERS = {'video_ap': _video_ap}
