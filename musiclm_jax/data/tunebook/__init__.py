# SPDX-License-Identifier: Apache-2.0
"""The embedded default data set: old tunes, rendered where they are used.

  catalogue     which tunes there are, their titles, groups and rights
  scores        one tune: its notes and what its source says of it
                (abc_notation, musicxml, keys and meters read the files)
  arrangement   who plays it, how fast, how loud, in which key (instruments)
  midi, render  notes to a MIDI file to a waveform
  captions      words from facts
  rendering     all of it: tune → waveform, captions, facts

`musiclm_jax.data.tasks.tunebook` offers it as a data set.
"""
