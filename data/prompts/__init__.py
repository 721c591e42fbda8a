# SPDX-License-Identifier: Apache-2.0
"""Prompts to make music from, with what they ask for as facts."""
