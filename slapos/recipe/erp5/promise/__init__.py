# SPDX-License-Identifier: GPL-2.0-or-later
"""Promise plugins: one thin module each; gathering and judging are in the service's `status` and `verdict`."""
