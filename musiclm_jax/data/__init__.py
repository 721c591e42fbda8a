# SPDX-License-Identifier: Apache-2.0
"""FILES → BATCHES: the only home of TensorFlow, TFDS and SeqIO.

tasks/        one data set a file: each is a ClipSource
sources       what a data set is: clips by name, and how to load one
writer        clip source → corpus on disk (shards: one of it; workers: processes
              that write them; progress: the bar)
corpus        a corpus on disk, read by clip and sample
order         which example comes when: a function, without state
loader        corpus → batches (prefetch: made ahead; augmentation)
token_writer  corpus × what makes codes → token corpus (token_shards: one of it)
token_corpus  codes on disk, read by clip and second
token_loader  token corpus → batches of a stage
seqio_tasks   the same examples as SeqIO tasks (converters: their features)
tfds_examples  a clip source as TFDS examples, for the builders in data/

Training needs none of the last two, and no TensorFlow.
"""
