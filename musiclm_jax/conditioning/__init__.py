# SPDX-License-Identifier: Apache-2.0
"""ANY SIGNAL → PREFIX CODES: what a stage of the cascade is conditioned on.

base   what a conditioner is, and how one is loaded
mulan  audio or text to codes of MuLan's joint space
"""
