# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs in a MariaDB partition: gather (`status`), decide (`decide`), and one module a duty."""
