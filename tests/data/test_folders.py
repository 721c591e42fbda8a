# SPDX-License-Identifier: Apache-2.0
import pathlib

import pytest

from musiclm_jax.data import folders
from musiclm_jax.data.corpus import AudioCorpus
from musiclm_jax.data.tasks.folder import Folder
from musiclm_jax.data.token_corpus import TokenCorpus


def test_home_is_expanded(monkeypatch):
  monkeypatch.setenv('HOME', '/home/someone')
  assert folders.local('~/a') == pathlib.Path('/home/someone/a')


@pytest.mark.parametrize(
  'read',
  [AudioCorpus, TokenCorpus, lambda path: Folder(directory=path).clips()],
)
def test_bucket_is_an_error_that_says_what_to_do(read):
  with pytest.raises(ValueError, match='gs://b/x is not a local .* mount'):
    read('gs://b/x')
