# SPDX-License-Identifier: GPL-2.0-or-later
"""Program mariadb-replication-password: another password for replication, printed nowhere, with no replica made anew.

On the primary --rotate, on each replica --set, and on the primary --finish; until then old and new are both accepted.
Each can be run again after it was killed at any moment.
"""

import argparse
import json
import sys
from pathlib import Path

from pymysql.connections import Connection

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.errors import ConfigurationError, ServerError
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.mariadb import primary as urls
from slapos.recipe.erp5.mariadb import replica, sql, sql_replication
from slapos.recipe.erp5.mariadb.config import REPLICATION_USER, Config
from slapos.recipe.erp5.mariadb.primary import Primary
from slapos.recipe.erp5.mariadb.sql import Account
from slapos.recipe.erp5.mariadb.sql_replication import Source
from slapos.recipe.erp5.passwords import make_password

LENGTH = 32
TIMEOUT = 10
LONGEST_INPUT = 4096


def kept(config: Config) -> Path:
    """Where processing finds the present password, from which it makes what is published."""
    return config.path("srv", "kept", "replication-password")


def pending(config: Config) -> Path:
    """The new password of a rotation that is under way, and not yet where everybody looks."""
    return config.path("srv", "kept", "replication-password.new")


# ---- on the primary


def rotate(config: Config, json_file: Path) -> None:
    """Make a new password, let the server accept it beside the old one, and keep it. Raises Error."""
    with sql.connect(config.defaults_file) as connection:
        accounts = _accounts_of_primary(connection, "--rotate")
        if not pending(config).exists():
            _refuse_unfinished(connection, accounts)
            process.write_atomically(pending(config), make_password(LENGTH))
        new, old = pending(config).read_text(encoding="utf-8"), config.secrets.replication_password
        hashes = tuple(dict.fromkeys(map(sql.password_hash, (new, old))))
        with process.step("accept the new password beside the old one"):
            for account in accounts:
                # When it was changed in SQL, the present one goes on too.
                present = sql_replication.password_hashes(connection, account)
                wanted = tuple(dict.fromkeys((hashes[0], *(present or hashes[1:]))))
                sql_replication.set_password_hashes(connection, account, wanted)
    keep(config, json_file, new)
    pending(config).unlink(missing_ok=True)
    process.log(
        "the new password is accepted beside the old one: process the instance (slapos node instance), which publishes "
        "replication-primary-url with it; give that to bin/mariadb-replication-password --set on each replica, and run "
        "this with --finish when all of them have it"
    )


def finish(config: Config) -> None:
    """Accept the kept password alone. Raises Error."""
    if pending(config).exists():
        raise ConfigurationError(
            "the new password is not in place yet, expected a complete --rotate before --finish: run --rotate again"
        )
    with sql.connect(config.defaults_file) as connection:
        accounts = _accounts_of_primary(connection, "--finish")
        hashed = sql.password_hash(config.secrets.replication_password)
        with process.step("accept the new password alone"):
            for account in accounts:
                present = sql_replication.password_hashes(connection, account)
                if hashed not in present:
                    raise ServerError(
                        f"{account} does not accept the password in {kept(config)}, expected it to: run --rotate first"
                    )
                if present != (hashed,):
                    sql_replication.set_password_hashes(connection, account, (hashed,))
    process.log("the old password is accepted no longer")


def _accounts_of_primary(connection: Connection, option: str) -> list[Account]:
    (source, *_) = (*sql_replication.sources(connection), None)
    if source:
        raise ServerError(
            f"this is a replica of {source.address}, and {option} is for the primary, whose accounts replicas get: run "
            "it there, and --set here"
        )
    accounts = sorted(account for account in sql.accounts(connection) if account.user == REPLICATION_USER)
    if not accounts:
        raise ServerError(
            f"there is no account {REPLICATION_USER}, expected one, as each database is made with it: create it with "
            "bin/mariadb-provision --include-removed"
        )
    return accounts


def _refuse_unfinished(connection: Connection, accounts: list[Account]) -> None:
    if any(len(sql_replication.password_hashes(connection, account)) > 1 for account in accounts):
        raise ServerError(
            "two passwords are accepted already, expected one: give the new one to each replica (--set), and run this "
            "with --finish before the next --rotate, or a replica that still has the oldest would be locked out"
        )


# ---- on a replica


def give(config: Config, json_file: Path, text: str) -> None:
    """Replicate with the password in `text`, or in the URL that it is, once the primary accepts it. Raises Error."""
    password = read(text)
    with sql.connect(config.defaults_file) as connection:
        (source, *_) = (*sql_replication.sources(connection), None)
        if source is None:
            raise ServerError(
                "this is no replica, and --set is for one: run --rotate here, and --set on this server's replicas"
            )
        with process.step(f"try it on {source.address}"):
            _try(config, source, password)
        with process.step("replicate with it"):
            sql_replication.change_password(connection, source.name, password)
    keep(config, json_file, password)
    process.log("the replica logs in with that password from now on")


def read(text: str) -> str:
    """The password of what was given: itself, or a URL such as the primary publishes. Raises ConfigurationError."""
    text = text.strip("\r\n")
    password = urls.parse(text.strip()).password if text.strip().startswith("mysql://") else text
    if not password or len(password) > LONGEST_INPUT or any(character in password for character in "\0\r\n"):
        raise ConfigurationError(
            "there is no password on the standard input, expected one line with the password, or with the "
            "replication-primary-url that the primary publishes now: give it there, as arguments can be read by others"
        )
    return password


def _try(config: Config, source: Source, password: str) -> None:
    primary = Primary(source.host, source.port, source.user, password)
    try:
        sql_replication.connect_primary(primary, replica.upstream(config, source.tls), TIMEOUT).close()
    except sql.AccessDenied as error:
        raise ServerError(
            f"nothing was changed, as {source.address} refuses that password ({error}), expected the one that it "
            "accepts since --rotate: process the primary's instance, and give its replication-primary-url"
        ) from error


# ---- both


def keep(config: Config, json_file: Path, password: str) -> None:
    """Put the password where our programs and the next processing find it; first what lasts. Raises Error, OSError."""
    process.write_atomically(kept(config), password)
    try:
        content = json.loads(json_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigurationError(
            f"{json_file} cannot be read as JSON: process the instance to write it again"
        ) from error
    content["secrets"]["replication-password"] = password
    process.write_atomically(json_file, json.dumps(content, indent=2, sort_keys=True))


def main() -> int:
    """The program `mariadb-replication-password`."""
    parser = argparse.ArgumentParser(prog="mariadb-replication-password", description=__doc__)
    parser.add_argument("--config", required=True, type=Path, help="the partition's etc/mariadb.json")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--rotate", action="store_true", help="on the primary: make a new password; the old one stays valid"
    )
    what.add_argument("--finish", action="store_true", help="on the primary: the old password is valid no longer")
    what.add_argument(
        "--set", action="store_true", help="on a replica: use the password, or URL, on the standard input"
    )
    options = parser.parse_args()

    def body() -> None:
        config = configuration.load(options.config)
        busy = "another change of the replication password is running: wait for its end"
        with process.lock(config.path("var", "run", "replication-password.lock"), busy):
            if options.rotate:
                rotate(config, options.config)
            elif options.finish:
                finish(config)
            else:
                give(config, options.config, sys.stdin.read(2 * LONGEST_INPUT))

    return process.program(body)
