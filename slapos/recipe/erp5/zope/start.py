# SPDX-License-Identifier: GPL-2.0-or-later
"""Becomes one Zope of the partition, with its files made anew: the command that the standby supervisor runs."""

import argparse
import os

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.zope import config as configuration
from slapos.recipe.erp5.zope import instance
from slapos.recipe.erp5.zope.config import Config, Instance


def command(config: Config, zope: Instance, ini: str, socket: int, ready: int) -> list[str]:
    """The program that serves, with the descriptors that it takes over."""
    words = [config.software.zope, config.software.zope_serve, "--ini", ini, "--home", str(config.home(zope.name))]
    words += ["--socket", str(socket), "--ready", str(ready)]
    words += ["--neo"] if config.neo else []
    words += ["--mysql", str(instance.mysql_file(config.home(zope.name)))] if config.mysql_urls else []
    return [*words, *(word for folder in config.products for word in ("--products", folder))]


def main() -> int:
    """Exit codes: 1 when it cannot be started; from then on those of py2/zope_serve.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--name", required=True, help="which of the partition's Zopes")
    parser.add_argument("--socket", type=int, required=True, help="the descriptor of the socket that listens")
    parser.add_argument("--ready", type=int, required=True, help="the descriptor of a pipe: gets a byte when it serves")
    options = parser.parse_args()

    def become() -> None:
        config = configuration.load(options.config)
        zope = config.zope(options.name)
        ini = instance.make(config, zope)
        words = command(config, zope, str(ini), options.socket, options.ready)
        home = str(config.home(zope.name))
        os.chdir(home)
        with process.attempting(f"start {words[0]}"):
            os.execve(words[0], words, process.environment({"INSTANCE_HOME": home}))

    return process.program(become)
