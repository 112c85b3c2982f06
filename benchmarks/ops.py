"""Our operators beside mmcv, torchvision, deformops, transformers and plain convolution.

One process, the same tensors, the same number of threads; results are compared before anything is
timed; calls alternate in blocks A A A B B B A A A B B B. The claim is the ratio: absolute times
depend on the machine and on who else uses it. An implementation that is not there is listed as
missing. The first command makes an environment that has them all (Python 3.12, mmcv compiled).

    make bench-env
    .venv-bench/bin/python benchmarks/ops.py --out bench_out
    .venv-bench/bin/python benchmarks/ops.py --case msda_encoder --sampling local --json rows.json
    .venv-bench/bin/python benchmarks/ops.py --case build

Cases are the sizes named in operators/cases.py, and two_threads, avx2, import, build; all but the
last unless cases are named. Every row of the JSON file holds case, pass (fwd or fwd+bwd),
implementation (ours is isda_suite), device, dtype, threads, median_ms, min_ms, peak_mb and ratio
(anchor to the anchor's time over this one).
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXTRAS = ('two_threads', 'avx2', 'import', 'build')


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--case', action='append', help='repeatable; default: all but build')
    parser.add_argument('--threads', type=int, default=1, help='default: 1')
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu', help='default: cpu')
    parser.add_argument(
        '--dtype',
        choices=['float32', 'bfloat16', 'float16'],
        default='float32',
        help='of the features; attention keeps locations and weights in float32 (default: float32)',
    )
    parser.add_argument(
        '--sampling', choices=['local', 'uniform', 'both'], default='both', help='default: both'
    )
    parser.add_argument(
        '--isa', choices=['generic', 'avx2', 'avx512'], help='of our CPU kernels; default: the best'
    )
    parser.add_argument('--json', type=Path, help='file for the rows')
    parser.add_argument('--out', type=Path, help='folder for text, JSON and chart')
    return parser.parse_args()


def prepare(arguments: argparse.Namespace) -> Any:
    """Choose CPU variant, threads and device before anything is loaded.

    Raises:
        SystemExit: if the machine does not have what was asked for.
    """
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    if arguments.isa:
        os.environ['ISDA_OPS_CPU_ISA'] = arguments.isa
    import torch

    from benchmarks.operators.implementations import our_operators
    from benchmarks.operators.measure import Settings

    if arguments.device == 'cuda' and not torch.cuda.is_available():
        raise SystemExit('--device cuda: torch finds no GPU')
    torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.allow_tf32 = False  # plain convolution computes in float32 as well
    isa = our_operators().info()['cpu_isa']
    if arguments.isa not in (None, isa):
        raise SystemExit(f'--isa {arguments.isa}: our kernels run on {isa or "plain PyTorch"}')
    return Settings(arguments.device, arguments.dtype, arguments.threads, isa)


def choose_cases(arguments: argparse.Namespace) -> list[str]:
    """Return the names of what is to be measured.

    Raises:
        SystemExit: if a name is unknown.
    """
    from benchmarks.operators.cases import CASES, TRIALS

    plain = arguments.device == 'cpu' and arguments.dtype == 'float32' and arguments.threads == 1
    extras = EXTRAS[:-1] if plain and not arguments.isa else ()
    unknown = sorted(set(arguments.case or ()) - {*CASES, *TRIALS, *EXTRAS})
    if unknown:
        known = ', '.join((*CASES, *TRIALS, *EXTRAS))
        raise SystemExit(f'--case {unknown[0]}: there is no such case; known: {known}')
    return arguments.case or [*CASES, *extras]


def measure_case(
    name: str, sampling: str, settings: Any, missing: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one case in both passes; note what is missing."""
    from benchmarks.operators.cases import CASES, TRIALS, ConvolutionCase
    from benchmarks.operators.measure import WrongResult, measure

    case = {**CASES, **TRIALS}[name]
    samplings = ('local', 'uniform') if sampling == 'both' else (sampling,)
    if isinstance(case, ConvolutionCase):  # its offsets are local
        samplings = ('local',)
    for one in samplings:
        for backward in (False, True):
            try:
                rows, absent = measure(name, case, one, backward, settings)
            except WrongResult as error:
                raise SystemExit(str(error)) from None
            yield from rows
            missing.update({f'{anchor} ({name})': why for anchor, why in absent.items()})


def run(arguments: argparse.Namespace, settings: Any) -> tuple[list[Any], Any, Any]:
    """Measure everything that was chosen, with a line for each result of ours.

    Returns:
        Rows, missing implementations with reasons, single numbers.
    """
    from benchmarks.operators import extras

    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    measures: dict[str, float] = {}
    for name in choose_cases(arguments):
        if name == 'import':
            measures['import_ms'] = extras.import_ms()
        elif name == 'build':
            measures['build_s'] = extras.build_s()
        elif name in ('two_threads', 'avx2'):
            rows += extras.two_threads(settings) if name == 'two_threads' else extras.avx2()
        else:
            for row in measure_case(name, arguments.sampling, settings, missing):
                rows.append(row)
                if row['implementation'] == 'isda_suite':
                    ratios = ', '.join(f'{a} {r:.1f}' for a, r in row['ratio'].items())
                    print(name, row['sampling'], row['pass'], f'| {ratios}', flush=True)
    return rows, _by_reason(missing), measures


def _by_reason(missing: dict[str, str]) -> dict[str, str]:
    """Name an implementation once where it is missing in several cases for the same reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for name, reason in missing.items():
        implementation, _, case = name.partition(' ')
        reasons.setdefault((implementation, reason), []).append(case.strip('()'))
    return {
        f'{implementation} ({", ".join(cases)})': reason
        for (implementation, reason), cases in reasons.items()
    }


def main() -> None:
    """Run the cases; print and write the results."""
    arguments = parse_arguments()
    settings = prepare(arguments)
    from benchmarks.operators import report
    from benchmarks.operators.goals import Results, judge

    rows, missing, measures = run(arguments, settings)
    about = report.machine(settings)
    goals = judge(Results(rows, measures, judged(settings, arguments.isa)))
    text = report.text(rows, about, missing, goals)
    print(text)
    content = json.dumps(
        {'machine': about, 'missing': missing, 'rows': rows, 'measures': measures, 'goals': goals},
        indent=1,
    )
    if arguments.json:
        arguments.json.write_text(content + '\n')
    if arguments.out:
        write(arguments.out / file_name(settings, arguments.isa), text, content, rows, about)


def judged(settings: Any, isa: str | None) -> dict[str, Any]:
    """Say which rows the goals are about: on the CPU one thread, float32 and the best variant."""
    about = vars(settings)
    if settings.device == 'cpu':
        best = 'not measured' if isa else settings.isa
        about = {**about, 'dtype': 'float32', 'threads': 1, 'isa': best}
    return about


def file_name(settings: Any, isa: str | None) -> str:
    """Name the files of a run by what differs from one thread in float32."""
    parts = ['ops', settings.device, isa]
    parts.append(None if settings.dtype == 'float32' else settings.dtype)
    parts.append(None if settings.threads == 1 else f'{settings.threads}_threads')
    return '_'.join(part for part in parts if part)


def write(stem: Path, text: str, content: str, rows: list[Any], about: dict[str, Any]) -> None:
    """Write text, JSON and chart."""
    from benchmarks.operators.chart import draw

    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix('.md').write_text(text)
    stem.with_suffix('.json').write_text(content + '\n')
    try:
        if rows:
            draw(rows, about, stem)
    except ImportError as error:
        print(f'no chart: {error}', file=sys.stderr)


if __name__ == '__main__':
    main()
