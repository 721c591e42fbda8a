# SPDX-License-Identifier: Apache-2.0
"""Waveform to semantic codes."""
