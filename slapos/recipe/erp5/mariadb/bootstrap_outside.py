# SPDX-License-Identifier: GPL-2.0-or-later
"""What a bootstrap needs of the rest of the project: certificates, the primary's answers, the live copy."""

import contextlib
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.errors import CertificateError, ServerError
from slapos.recipe.erp5.mariadb import live_receive, source, sql, sql_replication, tls
from slapos.recipe.erp5.mariadb import primary as urls
from slapos.recipe.erp5.mariadb.bootstrap import Position
from slapos.recipe.erp5.mariadb.config import Config
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.mariadb.progress import Progress
from slapos.recipe.erp5.mariadb.source import Source
from slapos.recipe.erp5.mariadb.sql_replication import Facts
from slapos.recipe.erp5.tls import join
from slapos.recipe.erp5.tls.context import client_context
from slapos.recipe.erp5.tls.files import Files

TIMEOUT = 30.0
"""Seconds that each step of a conversation with the primary may take."""
_BROKEN_OFF = re.compile(r"\((2006|2013)\)$")


class Real:
    """bootstrap.Outside, for real."""

    def __init__(self) -> None:
        self._again = False

    def join(self, config: Config, primary: Primary) -> None:
        """What we have does for the first attempt; after a failure it may be of an authority that is gone."""
        files = _files(config)
        if files is None:
            return
        reason, again = join.needs_join(files, times.now()), self._again and primary.endpoint
        self._again = True
        if not reason and not again:
            return
        if reason:
            process.log(f"step: join the authority of {primary.address}: {reason}")
        try:
            join.join(tls.giver(config, primary))
        except CertificateError as error:
            if reason:
                raise
            process.log(f"warning: {error}; the certificate from before is used")

    def context(self, config: Config, where: Source) -> ssl.SSLContext | None:
        """The primary's authority is the only one trusted, but for a plain dump that lies elsewhere."""
        if where.scheme != "https":
            return None
        files = _files(config)
        if files is None or (where.kind == source.PLAIN and not self._is_primary(config, where)):
            return ssl.create_default_context()
        return client_context(files, config.terms)

    def _is_primary(self, config: Config, where: Source) -> bool:
        assert config.replication
        endpoint = urlsplit(urls.parse(config.replication.primary_url).endpoint)
        return (endpoint.hostname, endpoint.port) == (where.host, where.port)

    def primary_facts(self, config: Config, primary: Primary) -> Facts:
        files = _files(config)
        with _told_what_to_do(files), sql_replication.connect_primary(primary, files, TIMEOUT) as connection:
            return sql_replication.server_facts(connection)

    def can_follow(self, config: Config, primary: Primary, gtid: str) -> str:
        files = _files(config)
        with _told_what_to_do(files):
            # It closes the connection itself.
            return sql_replication.can_follow(sql_replication.connect_primary(primary, files, TIMEOUT), gtid)

    def receive_live(self, config: Config, where: Source, directory: Path, progress: Progress) -> Position:
        told = 0

        def tell(done: int, total: int) -> None:
            nonlocal told
            if total != told:
                told = total
                progress.begin("receive a live copy", total)
            progress(done)

        progress.begin("receive a live copy")
        with live_receive.open_live(where.where + where.path, self.context(config, where)) as response:
            received = live_receive.receive(config, response, directory, tell)
        return Position(received.gtid, received.server_version)


@contextlib.contextmanager
def _told_what_to_do(files: Files | None) -> Iterator[None]:
    """Say what helps where a primary does not let us in; with TLS 1.3 it does not tell a client why (measured)."""
    try:
        yield
    except sql.AccessDenied as error:
        certificate = f", and see that {files.client} is of its authority" if files else ""
        raise sql.AccessDenied(
            f"{error}, expected to be let in: give replication.primary-url as the primary publishes it now{certificate}"
        ) from error
    except ServerError as error:
        if files is None or not _BROKEN_OFF.search(str(error)):
            raise
        raise ServerError(
            f"{error}, expected to be let in: see that the primary runs, and that {files.client} has neither expired"
            " nor been revoked"
        ) from error


def _files(config: Config) -> Files | None:
    """Where the certificates of a replication client are; None when TLS is off."""
    return Files(config.tls).upstream if config.replication and config.replication.replicate_with_tls else None
