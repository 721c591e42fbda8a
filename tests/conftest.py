# SPDX-License-Identifier: Apache-2.0
"""Strict JAX on eight virtual CPU devices, for every test."""

import os

# Before the first import of jax: a backend reads it once.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
)

import jax  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')
