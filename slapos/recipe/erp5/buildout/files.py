# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `files`: brings templates and schemas, unchanged, from beside their profile into the release."""

import os
import shutil
from pathlib import Path

from zc.buildout import UserError
from zc.buildout.download import ChecksumError, Download


class Recipe:
    """Options: `base` (a folder or URL, usually `${:_profile_base_location_}`) and `names` (relative, one a line).

    Publishes `location`, the folder that holds the files under the same names. They are compared at every build,
    since a profile's neighbour can change while the profile does not. Raises UserError when one cannot be had.
    """

    def __init__(self, buildout, name: str, options):
        options.setdefault("location", os.path.join(buildout["buildout"]["parts-directory"], name))
        self.location = Path(options["location"])
        self.base = options["base"].rstrip("/")
        self.names = options["names"].split()
        self.download = Download(buildout["buildout"], cache=None, offline=False)

    def install(self) -> str:
        """Fetch all into a folder beside, then swap."""
        beside = self.location.with_name(self.location.name + ".new")
        shutil.rmtree(beside, ignore_errors=True)
        for name in self.names:
            target = beside / name
            target.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(f"{self.base}/{name}", target)
        shutil.rmtree(self.location, ignore_errors=True)
        beside.rename(self.location)
        return str(self.location)

    update = install

    def _fetch(self, source: str, target: Path) -> None:
        try:
            path, temporary = self.download(source)
            shutil.copyfile(path, target)
            if temporary:
                os.unlink(path)
        except (OSError, ChecksumError, UserError) as error:
            raise UserError(f"{source} cannot be had ({error}); is it beside the profile that names it?") from error
