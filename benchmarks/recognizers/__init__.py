"""Speech recognizers behind one interface, each in a separate process, for `benchmarks/peers.py`.

`registry` lists and installs them, `runner` runs them, `reference` provides reference words with their times, and
`metrics` computes errors and latencies. `worker` and the modules of `adapters` run in the environments of the
recognizers, where nothing of this repository but themselves is available. The adapters of stream_asr and Transformers
are an exception: they run in the environment of stream_asr.
"""
