# SPDX-License-Identifier: Apache-2.0
"""Corpora to codes: fitting what makes the codes, and making them.

`fit_semantic`, `fit_mulan_rvq`: k-means and codebooks over a corpus.
`tokenize`: every code of a clip, for a corpus of codes.
`pseudo_captions`: sentences for music that has none.
"""
