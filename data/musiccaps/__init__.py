# SPDX-License-Identifier: Apache-2.0
"""MusicCaps as a TFDS data set."""
