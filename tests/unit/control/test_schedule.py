# SPDX-License-Identifier: GPL-2.0-or-later
"""Schedules: which texts mean a moment, which moment, and when one was missed."""

from datetime import UTC, datetime, timedelta

import pytest

from slapos.recipe.erp5.control import schedule
from slapos.recipe.erp5.errors import ConfigurationError

SUNDAY = datetime(2026, 11, 22, 22, 30, 15, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["daily", "hourly", "30 2 * * *", "*/15 * * * *", "0 0 * mar thu", "0 0 29 2 *", "0 0 L * *", "5,35 1-3 * * 1-5"],
)
def test_texts_that_mean_a_moment(text):
    schedule.check(text, "backup.logical")
    assert schedule.previous(text, SUNDAY) < SUNDAY < schedule.following(text, SUNDAY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Daily",
        "weekly",
        "@daily",
        "0 0 * *",
        "* * * * * *",
        "0 0 1 1 * 0 2027",
        "60 * * * *",
        "0 24 * * *",
        "-1 * * * *",
        "*/0 * * * *",
        "0 0 30 2 *",
        "0 0 * * foo",
        "R 0 * * *",
        "H H(1-3) * * *",
        "0 0 * * *; reboot",
        "a b c d e",
        "٣ 0 * * *",
    ],
)
def test_other_texts_are_refused_in_one_sentence(text):
    with pytest.raises(ConfigurationError) as caught:
        schedule.check(text, "backup.logical")
    assert str(caught.value) == (
        f"backup.logical.periodicity is {text!r}, which is neither daily nor hourly nor a cron expression of five "
        "fields with a date that exists: give one such as '30 2 * * *' (at 02:30 UTC every day)"
    )


@pytest.mark.parametrize(
    ("text", "previous", "following"),
    [
        ("daily", datetime(2026, 11, 22), datetime(2026, 11, 23)),
        ("hourly", datetime(2026, 11, 22, 22), datetime(2026, 11, 22, 23)),
        ("30 2 * * 1", datetime(2026, 11, 16, 2, 30), datetime(2026, 11, 23, 2, 30)),
        ("30 22 * * *", datetime(2026, 11, 22, 22, 30), datetime(2026, 11, 23, 22, 30)),
        ("0 0 29 2 *", datetime(2024, 2, 29), datetime(2028, 2, 29)),
    ],
)
def test_moments(text, previous, following):
    assert schedule.previous(text, SUNDAY) == previous.replace(tzinfo=UTC)
    assert schedule.following(text, SUNDAY) == following.replace(tzinfo=UTC)


MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("last", "now", "due"),
    [
        (None, SUNDAY, True),
        (MIDNIGHT, MIDNIGHT + timedelta(hours=23, minutes=59), False),
        (MIDNIGHT, MIDNIGHT + timedelta(days=1), False),  # the moment itself has not passed yet
        (MIDNIGHT, MIDNIGHT + timedelta(days=1, milliseconds=1), True),
        (MIDNIGHT + timedelta(hours=23), MIDNIGHT + timedelta(days=1, seconds=1), True),
        (MIDNIGHT - timedelta(days=9), MIDNIGHT + timedelta(hours=7), True),  # missed, when the machine was off
    ],
)
def test_due(last, now, due):
    assert schedule.is_due("daily", last, now) is due


def test_a_run_begun_in_the_second_of_its_moment_satisfies_it():
    begun = MIDNIGHT  # as times.text() keeps 00:00:00.3
    assert not schedule.is_due("daily", begun, MIDNIGHT + timedelta(milliseconds=300))
    assert not schedule.is_due("daily", begun, MIDNIGHT + timedelta(seconds=30))


def test_failures_are_retried_ever_more_slowly():
    assert [schedule.retry_delay(failures) for failures in (1, 2, 3, 9, 10, 10_000)] == [10, 20, 40, 2560, 3600, 3600]
