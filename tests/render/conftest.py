# SPDX-License-Identifier: GPL-2.0-or-later
"""The option with which golden files are written anew instead of compared."""


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write tests/render/golden anew; read the diff")
