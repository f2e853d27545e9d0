# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe `erp5-children`: requests the partitions of an ERP5 instance, and hands on what each publishes to the next.

MariaDB and the database of objects are requested at once, Zopes when both have published, and the balancer with the
Zopes that are known. What a child published last is kept: a Master that refuses a request for once takes nothing from
the others.
"""

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from zc.buildout import UserError

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5.buildout import erp5_decide as decide
from slapos.recipe.erp5.buildout import keep, requests
from slapos.recipe.erp5.buildout.erp5_check import Kept
from slapos.recipe.erp5.buildout.erp5_decide import BALANCER, MARIADB, ZOPE, Plan
from slapos.recipe.erp5.errors import ConfigurationError


class Recipe:
    """Options in: those of requests.CONNECTION, `configuration` (the parameters), `title` (of the instance), and the
    files that keep Kept (`storage-path`) and the first user's password (`password-path`).

    Options out, set while the section is initialised: `children` (a list of objects as root.config.Child), `missing`
    (the titles of those that have not published), `unsatisfied` (those of them that have no partition), `differences`
    (sentences: what is asked for and not done) and `published` (an object: what the instance publishes, complete when
    nothing is missing).
    Raises UserError, one sentence naming the parameter.
    """

    def __init__(self, buildout: Any, name: str, options: MutableMapping[str, Any]) -> None:
        self.path = Path(options["storage-path"])
        try:
            self.kept = load(self.path) or Kept(options["title"])
            self.plan = decide.plan(options["configuration"], self.kept)
        except ConfigurationError as error:
            raise UserError(str(error)) from error
        self.password = self._password(buildout, name, options)
        self.request = requests.asker(buildout, {key: options[key] for key in requests.CONNECTION})
        self.published = dict(self.kept.published)
        self.kinds: dict[str, str] = {}
        self.unsatisfied: list[str] = []
        self._ask_all()
        options["children"] = [
            {"name": self._title(child), "kind": kind, "published": child in self.published}
            for child, kind in self.kinds.items()
        ]
        options["missing"] = [one["name"] for one in options["children"] if not one["published"]]
        options["unsatisfied"] = [title for title in self.unsatisfied if title in options["missing"]]
        options["differences"] = list(self.plan.differences)
        options["published"] = decide.published(self.plan, self.password.value, self.published)

    def _password(self, buildout: Any, name: str, options: Mapping[str, Any]) -> keep.Recipe:
        given = self.plan.identity.get("inituser-password") or options["configuration"]["inituser-password"]
        wanted = {"kind": "password", "storage-path": options["password-path"], "requested": given}
        return keep.Recipe(buildout, name, wanted)

    def _ask_all(self) -> None:
        """Request them in the order in which each needs what the others publish."""
        plan, database = self.plan, self.plan.zodb
        self._ask(MARIADB, MARIADB, decide.mariadb(plan))
        self._ask(database, database, decide.zodb(plan))
        ready = {MARIADB, database} <= self.published.keys()
        zopes = {f"{ZOPE}-{name}": name for name in plan.zope_partitions}
        for child, name in zopes.items():
            self.kinds[child] = ZOPE
            if ready:
                of = self.published
                self._ask(child, ZOPE, decide.zope(plan, name, self.password.value, of[MARIADB], of[database]))
        known = [self.published[child] for child in zopes if child in self.published]
        self.kinds[BALANCER] = BALANCER
        if known:
            self._ask(BALANCER, BALANCER, decide.balancer(plan, known))

    def _ask(self, child: str, kind: str, parameters: Mapping[str, Any]) -> None:
        """Request one; what it published before stays when it cannot be requested."""
        self.kinds[child] = kind
        try:
            published = self.request(self._title(child), kind, parameters, {})
        except requests.NoPartition:
            self.unsatisfied.append(self._title(child))
            return
        except UserError:  # which has been logged
            return
        if published:
            self.published[child] = dict(published)

    def _title(self, child: str) -> str:
        return f"{self.kept.title}-{child}"

    def install(self) -> tuple[str, ...]:
        self.password.install()
        keeping = keeping_after(self.kept, self.plan, self.published)
        if load(self.path) != keeping:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shapes.save(self.path, keeping)
        return ()

    update = install


def keeping_after(kept: Kept, plan: Plan, published: Mapping[str, Any]) -> Kept:
    """What is kept once the children were requested."""
    ready = {MARIADB, plan.zodb} <= published.keys()
    return Kept(
        title=kept.title,
        zodb=plan.zodb,
        zeo_storage=plan.parameters["zodb"]["zeo-storage"] if plan.zodb == "zeo" else "",
        replica_of=dict(plan.identity),
        followed=dict(plan.follow),
        zope_partitions=dict(plan.zope_partitions) if ready else {},
        published=dict(published),
        expects_backup=plan.expects_backup,
        mysql_urls=decide.mysql_urls(plan, published.get(MARIADB, {}).get("database-list", [])),
        created=kept.created or not {MARIADB, plan.zodb}.isdisjoint(published.keys()),
    )


def load(path: Path) -> Kept | None:
    """What is kept, None before the first processing. Raises ConfigurationError when it cannot be read."""
    return shapes.load(path, Kept) if path.exists() else None
