# SPDX-License-Identifier: Apache-2.0
"""A folder of the user's own audio as a TFDS data set."""
