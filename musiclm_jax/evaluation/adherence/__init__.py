# SPDX-License-Identifier: Apache-2.0
"""Whether music is what its prompt states, heard by independent tools.

A tool a file: `instruments` (tags of musicnn), `beats` (tempo and meter, by
librosa), `notes` (basic-pitch, compared by mir_eval). `figures`: each of them
beside the same music under the prompts of others. `evaluate`: all tools over the
clips of a folder, whatever facts are known; `report`: the same as tables.
"""
