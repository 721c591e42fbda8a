# SPDX-License-Identifier: Apache-2.0
"""Throughput beside the limit of the machine, measured in the same run."""
