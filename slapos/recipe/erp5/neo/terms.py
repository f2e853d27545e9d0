# SPDX-License-Identifier: GPL-2.0-or-later
"""What NEO's partitions call things where they speak of certificates."""

from dataclasses import replace

from slapos.recipe.erp5.tls.partition import Terms

TERMS = Terms(
    authority="neo-caucased",
    control="neo-control",
    promise="neo-certificates",
    server_name="neo",
    client_name="slapos-neo",
    client_serves=True,
    path="/neo",
    giver="cluster",
    asker="node",
    secret="secret of its certificates",
    endpoint="the authority of a NEO cluster: compare the URL with the neo-certificate-url that the cluster publishes",
    proof="it to know the secret in its URL: give the neo-certificate-url that the cluster publishes now",
    no_endpoint="there is no URL of the cluster's authority, expected its neo-certificate-url: process the instance",
    no_parameter="nobody says where another one can be had: process the instance again",
    by_hand="take it from the neo-caucased-csr-to-sign that the cluster publishes",
    external="have the request that is published as neo-caucased-csr-to-sign approved there",
)

NODE_TERMS = replace(TERMS, control="neo-node-control", promise="neo-node-certificates")
"""The same in the partition of a node."""
