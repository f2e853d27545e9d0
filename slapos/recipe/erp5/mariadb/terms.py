# SPDX-License-Identifier: GPL-2.0-or-later
"""What MariaDB partitions call things where they speak of certificates."""

from slapos.recipe.erp5.tls.partition import CLIENT_NAME, Terms

TERMS = Terms(
    authority="mariadb-caucased",
    control="mariadb-control",
    promise="mariadb-certificates",
    server_name="mariadb",
    client_name=CLIENT_NAME,
    client_serves=False,
    path="/replication",
    giver="primary",
    asker="replica",
    secret="replication password",
    endpoint=("the endpoint of a MariaDB partition: compare replication.primary-url with what the primary publishes"),
    proof="it to know the password of replication.primary-url: give the URL that the primary publishes now",
    no_endpoint=(
        "replication.primary-url has no endpoint in its query, expected the whole replication-primary-url that the "
        "primary publishes; or give replication.caucased-url to have a certificate approved by hand"
    ),
    no_parameter=(
        "without the parameter replication we cannot ask for another one: give replication.primary-url as the primary "
        "publishes it"
    ),
    by_hand="add our caucased-csr-to-sign to caucased.csr-to-sign of the primary",
    external=(
        "give replication.primary-url without its query, that URL as replication.caucased-url, and have the request "
        "approved there"
    ),
)
