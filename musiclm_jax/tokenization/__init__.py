# SPDX-License-Identifier: Apache-2.0
"""Corpora to codes: fitting what makes the codes, and storing them."""
