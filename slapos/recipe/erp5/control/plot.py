# SPDX-License-Identifier: GPL-2.0-or-later
"""The lag of the last hour as a picture (SVG) that says in words what it shows; pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from slapos.recipe.erp5 import times, words
from slapos.recipe.erp5.control.sampler import HOUR, Sample

WIDTH, HEIGHT = 720, 120
GAP = 30.0
"""Seconds without a look that break the line."""
NICE = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400)
"""Seconds at which the upper end of the scale may lie."""


@dataclass(frozen=True)
class Plot:
    """Lines of points in a box of WIDTH and HEIGHT, the end of the scale in words, and the same as a sentence."""

    lines: tuple[str, ...]
    top: str
    sentence: str
    width: int = WIDTH
    height: int = HEIGHT


def plot(samples: Sequence[Sample], now: datetime) -> Plot | None:
    """The picture; None when no lag was known within the hour."""
    known = [(times.parse(one.at), one.lag) for one in samples]
    lags = [lag for _, lag in known if lag is not None]
    if not lags:
        return None
    top = scale(max(lags))
    return Plot(
        lines=tuple(_line(piece, top, now) for piece in pieces(known)),
        top=duration(top),
        sentence=_sentence(lags, len(known) - len(lags)),
    )


def scale(highest: int) -> int:
    """The least round number of seconds that all fits under."""
    return next((one for one in NICE if one >= highest), highest)


def pieces(known: Sequence[tuple[datetime, int | None]]) -> list[list[tuple[datetime, int]]]:
    """The stretches in which the lag was known without a gap."""
    found: list[list[tuple[datetime, int]]] = []
    last = None
    for moment, lag in known:
        if lag is None:
            last = None
            continue
        if last is None or (moment - last).total_seconds() > GAP:
            found.append([])
        found[-1].append((moment, lag))
        last = moment
    return found


def _line(piece: Sequence[tuple[datetime, int]], top: int, now: datetime) -> str:
    points = [_point(moment, lag, top, now) for moment, lag in piece]
    if len(points) == 1:  # a line of one point would not be seen
        points.append((points[0][0] + 1, points[0][1]))
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _point(moment: datetime, lag: int, top: int, now: datetime) -> tuple[float, float]:
    age = (now - moment).total_seconds() / HOUR.total_seconds()
    return round(WIDTH * (1 - age), 1), round((HEIGHT - 4) * (1 - lag / top) + 2, 1)


def _sentence(lags: Sequence[int], unknown: int) -> str:
    missing = f", and unknown in {unknown} of {unknown + len(lags)} looks" if unknown else ""
    return f"Lag over the last hour: at most {duration(max(lags))}, {duration(lags[-1])} when last known{missing}."


def duration(seconds: float) -> str:
    """Seconds for people."""
    return words.duration(timedelta(seconds=seconds))
