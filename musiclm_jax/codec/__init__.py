# SPDX-License-Identifier: Apache-2.0
"""Waveform to acoustic codes and back."""
