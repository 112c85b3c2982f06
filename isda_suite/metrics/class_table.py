"""Values of every class as a table."""

import math


def class_table(rows: dict[str, dict[str, float]]) -> str:
    """Return values in percent as text columns.

    Args:
        rows: Class -> its values by name, the same names for all; a class of which the first is
            nan has no ground truth and is left out.
    """
    names = list(next(iter(rows.values()), {}))
    known = {row: values for row, values in rows.items() if not math.isnan(values[names[0]])}
    width = max(len('class'), *(len(row) for row in rows)) if rows else len('class')
    lines = ['  '.join([f'{"class":<{width}}', *(f'{name:>7}' for name in names)])]
    for row, values in known.items():
        cells = (
            f'{"-" if math.isnan(value) else f"{100 * value:.1f}":>{max(7, len(name))}}'
            for name, value in values.items()
        )
        lines.append('  '.join([f'{row:<{width}}', *cells]))
    if len(known) < len(rows):
        lines.append(f'({len(rows) - len(known)} classes without ground truth left out)')
    return '\n'.join(lines)
