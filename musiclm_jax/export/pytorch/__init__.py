# SPDX-License-Identifier: Apache-2.0
"""MusicLM in PyTorch: needs torch and safetensors, and nothing of JAX.

from modeling_musiclm import MusicLM
music_lm = MusicLM.from_pretrained('exported')
audio = music_lm.generate(['slow piano waltz'], seconds=10, seed=0)
"""

from .codec import Codec
from .mulan import MuLan
from .music_lm import MusicLM
from .semantic import SemanticTokenizer
from .stage import StageLM

__all__ = ['Codec', 'MuLan', 'MusicLM', 'SemanticTokenizer', 'StageLM']
