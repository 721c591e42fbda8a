# SPDX-License-Identifier: Apache-2.0
"""Latents to codes and back: k-means, vector and residual quantization.

`kmeans`: of one array, under jit. `streamed_kmeans`: of points in blocks, for a
corpus. `standardization`: mean 0 and variance 1; `scaled_kmeans`: that first.
`vector`, `residual`: codebooks that are trained.
"""
