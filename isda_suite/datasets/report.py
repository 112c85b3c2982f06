"""What a check of a data set found, counted, with examples."""

from dataclasses import dataclass, field

from .errors import DataError

MAX_EXAMPLES = 5


@dataclass
class Finding:
    """One kind of fault or oddity.

    Args:
        title: What it is, and what happens with it when it is not fatal.
        fatal: Whether training or testing must not start.
        count: How often it was seen.
        examples: Where, at most five.
    """

    title: str
    fatal: bool
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Report:
    """Collect findings about one source.

    Args:
        source: The annotation file or folder that was looked at.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.facts: dict[str, int] = {}
        self.findings: dict[str, Finding] = {}

    def add(self, title: str, example: str = '', fatal: bool = False, count: int = 1) -> None:
        """Count a finding and keep its place among the first examples.

        Args:
            title: What was found; equal titles are counted together.
            example: Where it was found.
            fatal: Whether it forbids the start.
            count: How many occurrences this stands for.
        """
        finding = self.findings.setdefault(title, Finding(title, fatal))
        finding.count += count
        finding.fatal |= fatal
        if example and len(finding.examples) < MAX_EXAMPLES:
            finding.examples.append(example)

    def merge(self, other: 'Report') -> None:
        """Take over the facts and findings of another report."""
        self.facts.update(other.facts)
        for finding in other.findings.values():
            for index in range(max(1, len(finding.examples))):
                example = finding.examples[index] if finding.examples else ''
                self.add(finding.title, example, finding.fatal, count=0)
            self.findings[finding.title].count += finding.count

    @property
    def fatal(self) -> bool:
        """Whether anything found forbids the start."""
        return any(finding.fatal for finding in self.findings.values())

    def table(self) -> str:
        """Return the facts and findings as text, fatal ones first."""
        lines = [self.source]
        lines += [f'  {count:>9}  {name}' for name, count in self.facts.items()]
        lines += self._finding_lines(sorted(self.findings.values(), key=lambda one: not one.fatal))
        if not self.findings:
            lines.append('  nothing wrong found')
        return '\n'.join(lines)

    @staticmethod
    def _finding_lines(findings: list[Finding]) -> list[str]:
        lines = []
        for finding in findings:
            kind = 'error' if finding.fatal else 'note'
            lines.append(f'  {finding.count:>9}  {kind}: {finding.title}')
            lines += [f'{"":13}{example}' for example in finding.examples]
            if finding.count > len(finding.examples) > 0:
                lines.append(f'{"":13}... and {finding.count - len(finding.examples)} more')
        return lines

    def notes(self) -> str:
        """Return the findings that are not fatal as text, empty if there are none."""
        notes = [finding for finding in self.findings.values() if not finding.fatal]
        return '\n'.join([self.source, *self._finding_lines(notes)]) if notes else ''

    def raise_if_fatal(self) -> None:
        """Raise one error that lists everything fatal.

        Raises:
            DataError: if anything fatal was found.
        """
        fatal = [finding for finding in self.findings.values() if finding.fatal]
        if fatal:
            raise DataError('\n'.join([f'{self.source}:', *self._finding_lines(fatal)]))
