# SPDX-License-Identifier: Apache-2.0
"""What `musiclm evaluate` can measure: one kind of model a file.

A file defines `add_arguments(parser)` and `run(options)`, and imports what it
needs inside `run`; the first line of its docstring is its line of help.
"""
