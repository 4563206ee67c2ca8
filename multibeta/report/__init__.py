"""One page about one run or several, with a slider of β: a file that needs nothing else."""

from multibeta.report.page import report

__all__ = ["report"]
