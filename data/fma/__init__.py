# SPDX-License-Identifier: Apache-2.0
"""FMA as a TFDS data set."""
