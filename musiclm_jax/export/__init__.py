# SPDX-License-Identifier: Apache-2.0
"""A trained model as a folder of PyTorch, and back; the only home of torch.

`exporting`: writes it, compares, and keeps it if all bounds hold. `importing`:
bundles again. `folder`: what is written. `naming`: weights by their Linen paths
and by PyTorch's names. `pytorch/`: the modules that go with the weights, copied
as they are; `serving/`: the server, likewise.
`parity`, `parity_report`: the sheet of all comparisons; `parity_layers`,
`parity_codes`: of layers and of codes; `parity_<component>`: of each component.
`clips`: what is compared on; `reference`: the bundle as it is compared.
`packing`: a small folder for JAX in its place; `model_card`: of either.
`state_dicts`: weights of others as arrays; `clap`: a checkpoint of LAION's CLAP as
the folder that `transformers` reads.
"""
