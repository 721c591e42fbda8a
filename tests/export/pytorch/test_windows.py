# SPDX-License-Identifier: Apache-2.0
"""A link to JAX's plan of windows, which imports neither JAX nor NumPy."""

from musiclm_jax.export import folder
from musiclm_jax.export.pytorch import windows
from musiclm_jax.inference import windows as jax_windows


def test_an_exported_folder_plans_as_jax_does(tmp_path):
  folder.write_package(tmp_path, kinds={'codec'})
  copied = tmp_path / folder.PACKAGE / 'windows.py'
  assert not copied.is_symlink()
  with open(jax_windows.__file__) as file:
    assert copied.read_text() == file.read()
  sizes = {'semantic_window': 17, 'coarse_window': 6, 'fine_window': 3}
  plan = windows.plan(known=0, stop=6, total=6, frames_per_tick=2, **sizes)
  assert [(tile.start, tile.stop) for tile in plan.fine] == [
    (start, start + 3) for start in range(0, 12, 3)
  ]
