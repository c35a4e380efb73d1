"""What a process counts and measures: the table of series, and the counters behind them."""

from pixelmill.metrics.counters import CONTENT_TYPE, MAX_CHILDREN, Depth, EndedTask, Metrics, Run, Watcher
from pixelmill.metrics.series import SERIES, Series

__all__ = ["CONTENT_TYPE", "MAX_CHILDREN", "SERIES", "Depth", "EndedTask", "Metrics", "Run", "Series", "Watcher"]
