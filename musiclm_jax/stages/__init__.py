# SPDX-License-Identifier: Apache-2.0
"""CODES → CODES: what a stage is, how its rows look, and the paper's three.

spec      which streams go in and which comes out, over which window
deduplication   runs of one code as one, and when they sound
layout    ids, positions and masks of a row: codes ↔ tokens
semantic  coarse  fine      the stages of MusicLM and AudioLM
lm        the language model of a stage: rows to logits
codebooks what its tables may begin as
objective how it is trained
"""
