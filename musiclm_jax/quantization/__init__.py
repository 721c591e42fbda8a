# SPDX-License-Identifier: Apache-2.0
"""Latents to codes and back: k-means, vector and residual quantization."""
