# SPDX-License-Identifier: Apache-2.0
"""One data set a file. A new one is a new file, and edits nothing else."""
