# SPDX-License-Identifier: Apache-2.0
"""TEXT → MUSIC, without TensorFlow and without an optimizer.

sampling   LOGITS → CODES: greedy, temperature, top-k, top-p, guidance
decoding   PROMPT ROWS → WHOLE ROWS: one decoder for all stages
"""
