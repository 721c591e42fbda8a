# SPDX-License-Identifier: Apache-2.0
"""WAVEFORM → FEATURES: pure functions without parameters.

io        files to waveforms and back
resample  from one sample rate to another, on the host
loudness  how loud a waveform is, and whether it is silent
framing   exact arithmetic of frames and windows
spectral  STFT, mel filters, log-mel, on device
"""
