# SPDX-License-Identifier: GPL-2.0-or-later
"""What a partition of Zopes calls things where it speaks of the certificate that it has as a client of NEO."""

from dataclasses import replace

from slapos.recipe.erp5.neo.terms import TERMS as NEO

TERMS = replace(NEO, control="zope-control", promise="zope-certificates", asker="client")
