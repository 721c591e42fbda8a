# SPDX-License-Identifier: Apache-2.0
"""A trained model as a folder of PyTorch, and back.

`naming`: weights by their Linen paths and by PyTorch's names. `folder`: what is
written. `pytorch/`: the modules that go with the weights, copied as they are.
"""
