# SPDX-License-Identifier: Apache-2.0
"""What a run will cost, before anything is allocated."""
