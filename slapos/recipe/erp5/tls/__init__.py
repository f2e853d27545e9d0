# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates: a partition's own authority, how replicas get theirs from it, and what keeps them all fresh."""

JOB = "certificate-renewal"
"""The scheduler's name for the regular run of renew.py."""
