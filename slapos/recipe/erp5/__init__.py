# SPDX-License-Identifier: GPL-2.0-or-later
"""ERP5's data layer on SlapOS: what is built, what runs in a partition, and what checks it."""
