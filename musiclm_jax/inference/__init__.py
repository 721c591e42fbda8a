# SPDX-License-Identifier: Apache-2.0
"""TEXT → MUSIC, without TensorFlow and without an optimizer.

music_lm     PROMPTS → WAVEFORM: six bundles as one object
assembly     which six bundles those are, checked to fit
compression  a copy of a model in fewer bytes
demo         the model that comes with the package
golden       what a model made once, beside what it makes now
request      what is asked for, checked
schedule     prompts over time
prompting    PROMPTS → EMBEDDINGS OVER TIME
settings     how each stage draws
composition  CONDITION CODES → ACOUSTIC CODES, over pieces of any length
cascade      three stages that fit together
windows      which windows of a piece are decoded, in which order
rows         any number of rows through a decoder compiled for few numbers
decoding     PROMPT ROWS → WHOLE ROWS: one decoder for all stages
sampling     LOGITS → CODES: greedy, temperature, top-k, top-p, guidance
"""
