"""Recognizers under one interface, each in a process of its own, for `benchmarks/peers.py`.

`roster` says which there are and where they are installed, `driving` runs them, `spoken` has what was said and when,
`timing` what the captions are worth. `child` and the modules that it loads run in the recognizers' own environments,
which have NumPy and nothing of ours.
"""
