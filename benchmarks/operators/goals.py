"""The goals for the operators beside what was measured."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from .cases import CASES, AttentionCase
from .implementations import OURS
from .measure import Row


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Attributes:
        rows: of all cases.
        measures: single numbers: ``import_ms``, ``build_s``.
        about: device, dtype, threads and CPU variant of the rows that goals are about.
    """

    rows: Sequence[Row]
    measures: dict[str, float]
    about: dict[str, Any]

    def row(self, case: str, passes: str, implementation: str = OURS, **wanted: Any) -> Row | None:
        """Find a row with local sampling; the rest as in ``about`` unless named here."""
        wanted = {
            **self.about,
            'sampling': 'local',
            'case': case,
            'pass': passes,
            'implementation': implementation,
            **wanted,
        }
        rows = [row for row in self.rows if all(row.get(k) == v for k, v in wanted.items())]
        return rows[-1] if rows else None


Number = Callable[[Results], float | None]


@dataclass(frozen=True)
class Goal:
    """One claim.

    Attributes:
        claim: in words.
        measured: the number, ``None`` if it was not measured.
        must: what to reach.
        stretch: what to reach for.
        at_most: whether small numbers are good.
        row: the row whose distance to the limit belongs beside it.
    """

    claim: str
    measured: Number
    must: float
    stretch: float | Number
    at_most: bool = False
    row: Callable[[Results], Row | None] = lambda results: None


def ratio(case: str, passes: str, *anchors: str, **wanted: Any) -> Number:
    """Return the ratio to the fastest of the anchors that were measured."""

    def number(results: Results) -> float | None:
        ratios = (results.row(case, passes, **wanted) or {'ratio': {}})['ratio']
        return min((ratios[anchor] for anchor in anchors if anchor in ratios), default=None)

    return number


def inverse(number: Number) -> Number:
    """Return our time over the anchor's."""

    def inverted(results: Results) -> float | None:
        found = number(results)
        return None if found is None else 1 / found

    return inverted


def backward_ratio(case: str, *anchors: str) -> Number:
    """Return the ratio of backward alone: what fwd+bwd takes beyond fwd."""

    def alone(results: Results, implementation: str) -> float | None:
        both, forward = (results.row(case, p, implementation) for p in ('fwd+bwd', 'fwd'))
        return both['median_ms'] - forward['median_ms'] if both and forward else None

    def number(results: Results) -> float | None:
        ours = alone(results, OURS)
        others = [time for a in anchors if (time := alone(results, a)) is not None]
        return min(others) / ours if ours and others else None

    return number


def memory_ratio(case: str) -> Number:
    """Return mmcv's peak memory over ours, forward and backward."""

    def number(results: Results) -> float | None:
        ours, theirs = (results.row(case, 'fwd+bwd', name) for name in (OURS, 'mmcv'))
        if not (ours and theirs and ours['peak_mb'] and theirs['peak_mb']):
            return None
        return theirs['peak_mb'] / ours['peak_mb']

    return number


def least_memory_ratio(name: str) -> Number:
    """Return mmcv's peak memory over that of outputs and gradients alone."""

    def number(results: Results) -> float | None:
        theirs, case = results.row(name, 'fwd+bwd', 'mmcv'), CASES[name]
        assert isinstance(case, AttentionCase)
        if not (theirs and theirs['peak_mb']):
            return None
        values = case.tokens * case.heads * case.channels
        elements = prod(case.output_shape) + values + case.samples * 3
        return theirs['peak_mb'] / (elements * 4e-6)

    return number


def limit_percent(case: str, passes: str) -> Number:
    """Return the limit as a share of our time, in percent."""

    def number(results: Results) -> float | None:
        row = results.row(case, passes)
        return 100 * row['limit_ms'] / row['median_ms'] if row and 'limit_ms' in row else None

    return number


def _goal(case: str, passes: str, anchor: str, must: float, stretch: float, **wanted: Any) -> Goal:
    claim = f'{case} {passes} vs {anchor}' + ''.join(f', {v}' for v in wanted.values())
    number = ratio(case, passes, anchor, **wanted)
    return Goal(claim, number, must, stretch, row=lambda r: r.row(case, passes, **wanted))


_SHARED = ('msda_encoder', 'msda_decoder', 'msda_defvistr', 'dcn_256_100x136', 'dcn_256_50x68')


def cpu_goals() -> Iterator[Goal]:
    """Yield the goals of one thread, and of two beside one."""
    for case, passes, must, stretch in (
        ('msda_encoder', 'fwd', 20, 35),
        ('msda_encoder', 'fwd+bwd', 16, 28),
        ('msda_decoder', 'fwd', 16, 25),
        ('msda_decoder', 'fwd+bwd', 9, 18),
        ('msda_defvistr', 'fwd', 34, 55),
        ('msda_defvistr', 'fwd+bwd', 34, 50),
        ('dcn_256_100x136', 'fwd', 6, 7.5),
    ):
        yield _goal(case, passes, 'mmcv', must, stretch)
    case = 'dcn_256_100x136'
    yield Goal(
        f'{case} fwd, times the time of conv2d',
        inverse(ratio(case, 'fwd', 'conv2d')),
        1.25,
        1.0,
        at_most=True,
        row=lambda results: results.row('dcn_256_100x136', 'fwd'),
    )
    yield _goal(case, 'fwd+bwd', 'mmcv', 9, 18)
    yield _goal(case, 'fwd+bwd', 'torchvision', 7, 14)
    yield _goal('dcn_64_200x272', 'fwd+bwd', 'mmcv', 24, 40)
    yield _goal('dcn_mask_head', 'fwd+bwd', 'mmcv', 34, 60)
    for case, must in (('msda_encoder', 12), ('msda_defvistr', 35)):
        claim = f"{case} fwd+bwd, mmcv's peak memory over ours"
        yield Goal(claim, memory_ratio(case), must, least_memory_ratio(case))
    yield _goal('msda_encoder', 'fwd', 'mmcv', 12, 18, isa='avx2')
    for case in _SHARED:
        for passes in ('fwd', 'fwd+bwd'):
            number = ratio(case, passes, f'{OURS}, 1 thread', threads=2)
            yield Goal(f'{case} {passes}, two threads vs one', number, 1.7, 1.95)


def gpu_goals() -> Iterator[Goal]:
    """Yield the goals of a GPU; estimates until they were measured once."""
    case, deformops = 'msda_encoder', ('deformops_triton', 'deformops_cuda')
    yield _goal(case, 'fwd', 'mmcv', 3, 5)
    claim = f'{case} fwd vs the better of deformops'
    yield Goal(claim, ratio(case, 'fwd', *deformops), 1.2, 1.6)
    yield Goal(f'{case} bwd vs mmcv', backward_ratio(case, 'mmcv'), 3, 6)
    claim = f'{case} bwd vs the better of deformops'
    yield Goal(claim, backward_ratio(case, *deformops), 1.3, 2)
    yield Goal(f'{case} fwd, percent of the limit', limit_percent(case, 'fwd'), 40, 60)
    for passes, must, stretch in (('fwd', 1.5, 2), ('fwd+bwd', 2, 4)):
        yield _goal('dcn_256_100x136', passes, 'torchvision', must, stretch, dtype='float32')


def single_goals() -> Iterator[Goal]:
    """Yield what is one number: import and build."""
    for claim, name, must, stretch in (
        ('import time added by the library, ms', 'import_ms', 50, 10),
        ('full build, s', 'build_s', 300, 120),
    ):
        yield Goal(claim, lambda r, n=name: r.measures.get(n), must, stretch, at_most=True)


def judge(results: Results) -> list[dict[str, Any]]:
    """Compare every goal that applies to the device with what was measured.

    Returns:
        One row for each goal: ``claim``, ``measured``, ``must``, ``stretch``, ``must_met``,
        ``stretch_met`` (``None``: not measured), ``times_the_limit`` and ``steady`` of the row.
    """
    of_device = cpu_goals if results.about['device'] == 'cpu' else gpu_goals
    table = []
    for goal in (*of_device(), *single_goals()):
        found, row = goal.measured(results), goal.row(results) or {}
        stretch = goal.stretch(results) if callable(goal.stretch) else goal.stretch
        limit = row.get('limit_ms')
        table.append(
            {
                'claim': goal.claim,
                'measured': found,
                'must': goal.must,
                'stretch': stretch,
                'must_met': _met(found, goal.must, goal.at_most),
                'stretch_met': _met(found, stretch, goal.at_most),
                'at_most': goal.at_most,
                'times_the_limit': row['median_ms'] / limit if limit else None,
                'limit_by': row.get('limit_by'),
                'steady': row.get('steady'),
            }
        )
    return table


def _met(found: float | None, wanted: float | None, at_most: bool) -> bool | None:
    if found is None or wanted is None:
        return None
    return found <= wanted if at_most else found >= wanted
