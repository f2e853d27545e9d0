# SPDX-License-Identifier: GPL-2.0-or-later
"""The regular jobs of a MariaDB partition, by its parameters and by what it has."""

import pytest

from slapos.recipe.erp5.errors import ConfigurationError
from slapos.recipe.erp5.mariadb import jobs, manifest
from tests.unit.mariadb import partition


def test_jobs(tmp_path):
    config = partition.config(tmp_path, periodicity="30 2 * * *")
    certificates, backup, logs, digest = jobs.plans(config, tmp_path / "etc/mariadb.json")
    assert (certificates.longest_pause, backup.longest_pause) == (300, 3600)
    assert (certificates.name, certificates.periodicity) == ("certificate-renewal", "*/5 * * * *")
    assert certificates.at_once
    assert (backup.name, backup.periodicity, backup.last_success) == ("logical-backup", "30 2 * * *", "")
    assert backup.at_once and not logs.at_once
    assert backup.command[-3:] == ("slapos.recipe.erp5.mariadb.backup", "--config", f"{tmp_path}/etc/mariadb.json")
    assert (logs.name, logs.periodicity, logs.after) == ("log-rotation", "daily", "")
    assert (digest.name, digest.periodicity, digest.after) == ("slow-query-digest", "daily", "log-rotation")


def test_physical_backups_are_a_job_when_they_are_enabled(tmp_path):
    config = partition.config(tmp_path, physical={"enable": True, "periodicity": "hourly"})
    partition.add_chain(config, 2, 1)
    _, _, backup, *_ = jobs.plans(config, tmp_path / "c")
    assert (backup.name, backup.periodicity, backup.after) == ("physical-backup", "hourly", "logical-backup")
    assert (backup.last_success, backup.at_once) == ("2026-11-03T00:00:00Z", True)
    assert backup.command[-3:] == ("slapos.recipe.erp5.mariadb.physical", "--config", f"{tmp_path}/c")


def test_jobs_know_the_backups_that_are_there(tmp_path):
    config = partition.config(tmp_path)
    partition.add_backups(config, 3)
    assert jobs.plans(config, tmp_path)[1].last_success == "2026-11-03T00:00:00Z"
    (config.dumps / manifest.FILE).write_text("{")
    assert jobs.plans(config, tmp_path)[1].last_success == ""


def test_no_backup_when_it_is_off(tmp_path):
    plans = jobs.plans(partition.config(tmp_path, enable=False), tmp_path)
    assert [plan.name for plan in plans] == ["certificate-renewal", "log-rotation", "slow-query-digest"]


def test_a_bad_periodicity_is_refused_even_when_it_is_off(tmp_path):
    with pytest.raises(ConfigurationError, match="^backup.logical.periodicity is 'weekly', which is neither daily"):
        jobs.plans(partition.config(tmp_path / "1", enable=False, periodicity="weekly"), tmp_path)
    with pytest.raises(ConfigurationError, match="^backup.physical.periodicity is 'weekly', which is neither daily"):
        jobs.plans(partition.config(tmp_path / "2", physical={"periodicity": "weekly"}), tmp_path)


def test_preparing_offers_what_is_listed(tmp_path, capsys):
    config = partition.config(tmp_path)
    entries = partition.add_backups(config, 2)
    jobs.prepare(config)
    assert manifest.load(config.offered) == entries
    (config.dumps / manifest.FILE).write_text("{")
    jobs.prepare(config)
    assert "manifest.json cannot be used as a list of backups" in capsys.readouterr().err
    assert manifest.load(config.offered) == entries
