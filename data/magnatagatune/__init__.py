# SPDX-License-Identifier: Apache-2.0
"""MagnaTagATune as a TFDS data set."""
