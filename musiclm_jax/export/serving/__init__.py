# SPDX-License-Identifier: Apache-2.0
"""PROMPTS OVER HTTP → AUDIO: a server for one exported model.

This package is copied as it is into an exported folder and runs there without
JAX and without the package it comes from: it needs fastapi, uvicorn, soundfile
and torch.

`settings`: limits. `scheduler`: waiting requests to batches of one shape.
`audio_file`: waveform to WAV, FLAC or ZIP. `metrics`: what Prometheus reads.
`app`: routes. `main`: the command line.
"""
