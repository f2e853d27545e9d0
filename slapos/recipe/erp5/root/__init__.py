# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole ERP5 instance, which is the partitions that it requests: what is said about them."""
