# SPDX-License-Identifier: Apache-2.0
"""Blocks that two or more models share."""
