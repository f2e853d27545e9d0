# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds back the Zopes of a partition, or one family of them, or releases them: `zope-hold --help`."""

import argparse

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import Refused
from slapos.recipe.erp5.zope import config as configuration
from slapos.recipe.erp5.zope import standby_state
from slapos.recipe.erp5.zope.config import Config
from slapos.recipe.erp5.zope.standby_decide import ALL


def family_of(config: Config, family: str) -> str:
    """The family that was named, or ALL. Raises Refused when there is no such family."""
    families = sorted({zope.family for zope in config.zopes})
    if family and family not in families:
        raise Refused(f"there is no family {family} in this partition, expected one of {', '.join(families)}")
    return family or ALL


def main() -> int:
    """Exit codes: 0 when it is done, 1 when it could not be."""
    parser = argparse.ArgumentParser(
        description="Hold Zopes back: they end, and their ports answer 503, until they are released."
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--release", action="store_true", help="let them run again")
    parser.add_argument("family", nargs="?", default="", help="one family of them; all when it is left out")
    options = parser.parse_args()

    def act() -> None:
        config = configuration.load(options.config)
        family = family_of(config, options.family)
        (standby_state.release if options.release else standby_state.hold)(config.run, family)
        process.log(f"{'all' if family == ALL else family}: {'released' if options.release else 'held back'}")

    return process.program(act)
