# SPDX-License-Identifier: Apache-2.0
"""Our stages under trainers of others, which are no dependency of ours.

t5x              a stage's objective as a t5x model; the only file with t5x
t5x_checkpoint   what t5x trained → a bundle; needs no t5x
"""
