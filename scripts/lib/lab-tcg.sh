# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
prepare_tcg() { fail_usage "not yet"; }
