# SPDX-License-Identifier: Apache-2.0
"""MusicLM in PyTorch: needs torch and safetensors, and nothing of JAX.

from modeling_musiclm import Codec
codec = Codec.from_pretrained('exported/codec')
codes = codec.encode(waveform)
"""

from .codec import Codec
from .semantic import SemanticTokenizer

__all__ = ['Codec', 'SemanticTokenizer']
