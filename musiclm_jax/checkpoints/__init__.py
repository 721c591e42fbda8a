# SPDX-License-Identifier: Apache-2.0
"""What is on disk, for training, inference and export alike.

`bundle`: a trained component, published and verified by its fingerprint.
`manager`: the checkpoints of a run, to resume it bit for bit.
`config_json`: config dataclasses to JSON and back. `fingerprint`: names of
weights. `buckets`: folders on disk or not. `storage`: weights in fewer bytes.
"""
