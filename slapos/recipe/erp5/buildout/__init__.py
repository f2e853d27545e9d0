# SPDX-License-Identifier: GPL-2.0-or-later
"""Build time: the buildout extension and recipes; nothing here runs inside a service."""
