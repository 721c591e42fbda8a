# SPDX-License-Identifier: Apache-2.0
"""How good it is: one metric a file, and reports over held-out clips.

`mel_distance`, `si_sdr`, `visqol`: one figure for a clip and its copy.
`opus`: the baseline codec, its bytes counted. `alignment`: a delay taken out.
`codec`: a codec beside Opus, level by level. `codebook_usage`: which codes
occur; `code_agreement`: and for which texts.
`retrieval`, `zero_shot`: what finds what in a joint space; `mulan`: both,
beside chance and untrained towers. `linear_probe`, `abx`: what features tell,
and whether tunes are told apart by them; `semantic`, `semantic_views`: both, of
tokens, beside log-mel and no training. `ngram`: what codes cost without a
model; `stages`: what they cost a stage. `memorization`, `sinkhorn`: what it has
by heart.
`music`: any folder beside a reference, by what of `embedders` listens:
`frechet` over `moments`, `kld`, `cycle_consistency` and `level`; `clips`: what
it is read from, and `degradations`: made worse by a known amount. `music_hook`,
`codec_hook`: the same, and `codec`, while a model is trained; `in_training`: what
these share.
`adherence`: whether music is what its prompt states; `prompts`: sets of them.
`listening`, `listening_page`, `listening_votes`: a blind test, its statistics.
`results`: all reports on one page. `bootstrap`: intervals. `report`,
`pictures`: the same as tables, JSON and spectrograms; `codec_report`,
`mulan_report`, `semantic_report`, `memorization_report`, `music_report` and
`music_pictures`: those of one kind of model.
"""
