"""The page: what stands where, and which handler answers what."""

from collections.abc import Sequence
from typing import Any

from .examples import Example
from .handlers import Belongings, Handlers
from .outcome import HEADERS, Look

_ABOUT = (
    '# isda_suite\n\nDrop an image or a video, press Run, and move the sliders: the picture is '
    'drawn anew, and the model does not run again. It runs on the machine that serves this page.'
)
_HOUR_S = 3600
#: Files of visitors are removed when they are this old, and when the demo ends.
_MAX_AGE_S = 24 * _HOUR_S


def build_page(
    handlers: Handlers,
    names: Sequence[str],
    task: str,
    images: Sequence[Example],
    videos: Sequence[Example],
    min_score: float,
) -> Any:
    """Lay out the page.

    Args:
        handlers: Answers to what is pressed.
        names: Of the models; the first one is chosen.
        task: Of the first one.
        images: Examples for models of images.
        videos: Examples for models of videos.
        min_score: Lower end of the slider of scores.

    Returns:
        ``gradio.Blocks``, not launched.
    """
    import gradio

    first = Belongings.of(task)
    with gradio.Blocks(
        title='isda_suite', analytics_enabled=False, delete_cache=(_HOUR_S, _MAX_AGE_S)
    ) as page:
        gradio.Markdown(_ABOUT)
        outcome = gradio.State()
        with gradio.Row():
            with gradio.Column(scale=1, min_width=320):
                model = gradio.Dropdown(list(names), value=names[0], label='Model', elem_id='model')
                file = gradio.File(label='Image or video', height=140, elem_id='input')
                run = gradio.Button('Run', variant='primary', elem_id='run')
                look = _controls(gradio, min_score, first)
                examples = [
                    _examples(gradio, images, file, 'images', first.images),
                    _examples(gradio, videos, file, 'videos', first.videos),
                ]
            with gradio.Column(scale=2, min_width=480):
                found = _results(gradio)
        _connect(gradio, handlers, [model, file, run, outcome], look, found)
        model.change(
            handlers.choose,
            model,
            [look[0], look[2], *examples],
            api_name=False,
            show_progress_on=model,
            concurrency_id='model',
            concurrency_limit=1,
        )
    page.queue(default_concurrency_limit=1, max_size=64)
    return page


def _controls(gradio: Any, min_score: float, shown: Belongings) -> list[Any]:
    """Make the controls, in the order of the fields of ``Look``."""
    usual = Look()
    return [
        gradio.Slider(
            min_score,
            1.0,
            max(usual.score_thr, min_score),
            step=0.01,
            label='Score threshold',
            info='Instances and tracks that score below are left out.',
            elem_id='score_thr',
            visible=shown.score_thr,
        ),
        gradio.Slider(
            0.0, 1.0, usual.opacity, step=0.05, label='Opacity of masks', elem_id='opacity'
        ),
        gradio.Checkbox(usual.boxes, label='Boxes', elem_id='boxes', visible=shown.boxes),
        gradio.Checkbox(usual.labels, label='Labels', elem_id='labels'),
    ]


def _examples(gradio: Any, examples: Sequence[Example], file: Any, kind: str, visible: bool) -> Any:
    """Make a group of examples, which become the input when they are pressed."""
    with gradio.Column(visible=visible, elem_id=f'example_{kind}') as group:
        if examples:
            shown = gradio.Dataset(
                label='Examples',
                components=[gradio.Image(render=False)],
                samples=[[str(example.thumbnail)] for example in examples],
                type='index',
            )
            paths = [str(example.file) for example in examples]
            shown.click(paths.__getitem__, shown, file, api_name=False, show_progress='hidden')
    return group


def _results(gradio: Any) -> list[Any]:
    """Make picture, sentence, table, place of the video, video, files, and the button."""
    picture = gradio.Image(
        label='Result',
        format='jpeg',
        interactive=False,
        buttons=['download', 'fullscreen'],
        elem_id='picture',
    )
    sentence = gradio.Markdown(elem_id='sentence')
    table = gradio.Dataframe(
        headers=list(HEADERS), interactive=False, max_height=320, label='Found', elem_id='table'
    )
    with gradio.Column(visible=False, elem_id='video_place') as place:
        video = gradio.Video(label='Video', interactive=False, elem_id='video')
    files = gradio.File(
        label='Download: picture, COCO, GeoJSON, and a zip of them all',
        file_count='multiple',
        interactive=False,
        elem_id='files',
    )
    write = gradio.Button('Write the files for these settings', elem_id='write')
    return [picture, sentence, table, place, video, files, write]


def _connect(
    gradio: Any, handlers: Handlers, asked: list[Any], look: list[Any], found: list[Any]
) -> None:
    """Say which handler answers what."""
    model, file, run, outcome = asked
    *shown, place, video, files, write = found
    file.change(
        handlers.show_input,
        file,
        [outcome, *shown, video, files],
        api_name=False,
        show_progress='hidden',
    ).then(handlers.arrange, outcome, place, api_name=False, show_progress='hidden')
    run.click(
        handlers.predict,
        [model, file, *look],
        [outcome, *shown],
        api_name='predict',
        concurrency_id='model',
        concurrency_limit=1,
    ).success(handlers.arrange, outcome, place, api_name=False, show_progress='hidden').success(
        handlers.write, [outcome, *look], [video, files], api_name=False
    )
    gradio.on(
        [control.change for control in look],
        handlers.redraw,
        [outcome, *look],
        [*shown, video, files],
        api_name='redraw',
        trigger_mode='always_last',
        show_progress='hidden',
    )
    write.click(handlers.write, [outcome, *look], [video, files], api_name='files')
