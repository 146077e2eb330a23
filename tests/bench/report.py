"""What the runs come to: medians and ratios, as a table, as JSON-ready rows and as a small SVG bar plot.

A ratio is taken within one round, against the C echo's run of the same round, connectors and connections, and the
median of the rounds is reported: the machine's speed drifts, and the ratio does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median
from typing import Any

YARDSTICK = "C echo"
_COLOURS = ("#4c6a92", "#c05a3c", "#7a9e5f", "#b8963e", "#7d6b91", "#6b8e8e")


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement. `load`: what the load generator printed. `rss`: the server's bytes, after it.

    CPU seconds: the server's, and what neither it nor the load generator used (other processes, mostly).
    """

    server: str
    connectors: int
    connections: int
    round: int
    load: dict[str, Any]
    cpu_seconds: float
    others_cpu_seconds: float
    rss: int


@dataclass(frozen=True, slots=True)
class Row:
    """The medians over all rounds. Ratios are to the C echo and None without it; latencies are in microseconds.

    `load_cpu`, `others_cpu`: CPUs that the load generator and all other processes kept busy. Where the first is near 1
    it, and not the server, may limit the rate; where the second is far from 0 the machine had other work to do.
    """

    server: str
    connectors: int
    connections: int
    rounds: int
    requests_per_second: float
    ratio: float | None
    ratio_lowest: float | None
    ratio_highest: float | None
    p50: float
    p99: float
    p99_ratio: float | None
    cpu_seconds_per_100k: float
    rss: int
    load_cpu: float
    others_cpu: float
    errors: int
    mismatches: int


def summary(runs: Sequence[Run]) -> list[Row]:
    """A row for each server, number of connectors and number of connections, in the order of the runs."""
    groups: dict[tuple[int, int, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.connectors, run.connections, run.server), []).append(run)
    rows = []
    for (connectors, connections, server), group in sorted(groups.items(), key=lambda item: item[0][:2]):
        yardstick = {run.round: run.load for run in groups.get((connectors, connections, YARDSTICK), ())}
        ratios = list(_ratios(group, yardstick, "requests_per_second"))
        rows.append(
            Row(
                server=server,
                connectors=connectors,
                connections=connections,
                rounds=len(group),
                requests_per_second=median(run.load["requests_per_second"] for run in group),
                ratio=median(ratios) if ratios else None,
                ratio_lowest=min(ratios, default=None),
                ratio_highest=max(ratios, default=None),
                p50=median(run.load["p50"] for run in group),
                p99=median(run.load["p99"] for run in group),
                p99_ratio=median(list(_ratios(group, yardstick, "p99")) or [0.0]) or None,
                cpu_seconds_per_100k=median(1e5 * run.cpu_seconds / max(1, run.load["requests"]) for run in group),
                rss=max(run.rss for run in group),
                others_cpu=median(run.others_cpu_seconds / run.load["run_seconds"] for run in group),
                load_cpu=median(run.load["load_cpu_seconds"] / run.load["run_seconds"] for run in group),
                errors=sum(run.load["errors"] for run in group),
                mismatches=sum(run.load["mismatches"] for run in group),
            )
        )
    return rows


def table(rows: Iterable[Row]) -> str:
    """The rows for people, fixed width."""
    heads = ("connectors", "connections", "server", "requests/s", "ratio", "(rounds)", "p50 us", "p99 us", "p99 ratio")
    lines = [(*heads, "CPU s/100k", "RSS MiB", "load CPU", "other CPU", "errors", "wrong")]
    for row in rows:
        spread = "" if row.ratio_lowest is None else f"({row.ratio_lowest:.2f}-{row.ratio_highest:.2f})"
        lines.append(
            (
                f"{row.connectors:,}",
                f"{row.connections:,}",
                row.server,
                f"{row.requests_per_second:,.0f}",
                _two_digits(row.ratio),
                spread,
                f"{row.p50:,.0f}",
                f"{row.p99:,.0f}",
                _two_digits(row.p99_ratio),
                f"{row.cpu_seconds_per_100k:.2f}",
                f"{row.rss / (1 << 20):,.0f}",
                f"{row.load_cpu:.2f}",
                f"{row.others_cpu:.2f}",
                str(row.errors),
                str(row.mismatches),
            )
        )
    return columns(lines, left=2)


def columns(lines: Sequence[Sequence[str]], left: int) -> str:
    """Cells in columns: numbers to the right, column `left` to the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def svg(rows: Sequence[Row], caption: str) -> str:
    """A bar for each row's requests/s as a share of the C echo's, in groups by connectors and connections."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.ratio is not None:
            groups.setdefault(f"{row.connectors:,} connectors, {row.connections:,} connections", []).append(row)
    servers = list(dict.fromkeys(row.server for row in rows))
    left, bar, wide = 150, 16, 420
    parts, y = [], 44
    for title, group in groups.items():
        parts.append(f'<text x="8" y="{y + 12}" font-weight="bold">{escape(title)}</text>')
        y += 20
        for row in group:
            assert row.ratio is not None
            length, colour = row.ratio * wide, _COLOURS[servers.index(row.server) % len(_COLOURS)]
            label = f"{row.ratio:.2f}  ({row.requests_per_second:,.0f}/s, p99 {row.p99:,.0f} µs)"
            parts.append(f'<text x="{left - 6}" y="{y + 12}" text-anchor="end">{escape(row.server)}</text>')
            parts.append(f'<rect x="{left}" y="{y + 2}" width="{length:.1f}" height="{bar - 4}" fill="{colour}"/>')
            parts.append(f'<text x="{left + length + 6:.1f}" y="{y + 12}">{label}</text>')
            y += bar
        y += 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 {y + 20}" width="900" height="{y + 20}" '
        'font-family="sans-serif" font-size="11">\n<rect width="100%" height="100%" fill="#fff"/>\n'
        '<text x="8" y="20" font-size="14" font-weight="bold">Requests per second, C echo = 1</text>\n'
        + "\n".join(parts)
        + f'\n<text x="8" y="{y + 8}" fill="#666">{escape(caption)}</text>\n</svg>\n'
    )


def _ratios(group: Iterable[Run], yardstick: dict[int, dict[str, Any]], key: str) -> Iterable[float]:
    for run in group:
        if yardstick.get(run.round, {}).get(key):
            yield run.load[key] / yardstick[run.round][key]


def _two_digits(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
