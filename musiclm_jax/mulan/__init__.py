# SPDX-License-Identifier: Apache-2.0
"""(AUDIO | TEXT) → JOINT EMBEDDING: MuLan.

audio_tower         log-mel, a body, a unit vector
resnet              a body of convolutions
vision_transformer  a body of attention
spec_augment        what the audio tower does not see in training
text_tower          BERT, a unit vector
bert                the encoder of texts
projection          from a tower's width to the joint space
encoder             attention in both directions, for bert and vision_transformer
wordpiece           texts to token ids, and how a vocabulary is learnt
hugging_face        published BERT weights, read from a folder
contrastive         what pulls a pair together and others apart
parts               some rows of a batch at a time
objective           how both towers are trained
model               both towers, and what embeds with them on a host
"""
