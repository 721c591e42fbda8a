# SPDX-License-Identifier: Apache-2.0
"""The embedded default data set as a TFDS data set."""
