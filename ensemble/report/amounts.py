"""Numbers as a person reads them, on a screen or a page."""

from __future__ import annotations


def interval(low: float | None, high: float | None) -> str:
    """`0.9651 to 0.9763`; nothing where it is not known or not defined."""
    return "" if low is None or high is None or low != low else f"{low:.4f} to {high:.4f}"


def millions(count: int | None) -> str:
    """A number of parameters: `23.5M`, `812k`."""
    if count is None:
        return ""
    return f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.0f}k" if count >= 1e3 else str(count)


def size(count: float | None) -> str:
    """A number of bytes: `14.4 MB`, `812 kB`."""
    if count is None:
        return ""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def duration(seconds: float | None) -> str:
    """`42s`, `3m10s`, `2h05m`."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f}s" if seconds >= 10 else f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def milliseconds(seconds: float | None) -> str:
    """Seconds an image as `3.2ms`."""
    return "" if seconds is None else f"{seconds * 1000:.2f}ms"
