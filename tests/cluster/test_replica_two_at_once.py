# SPDX-License-Identifier: GPL-2.0-or-later
"""Two replicas of one primary, requested together and made by the same run of processing."""

from tests.cluster.replicas import assert_same_data, follows


def test_both_are_made_and_follow(source, two_replicas):
    for copy in two_replicas:
        assert follows(copy, source)
        copy.wait_for_row_of(source)
        assert_same_data(copy, source)
