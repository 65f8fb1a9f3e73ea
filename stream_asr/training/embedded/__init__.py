"""How the embedded English model was made, from public packages and a folder of recordings to the shipped files.

``python -m stream_asr.training.embedded --help`` says how to make it again. `settings` holds everything that was
chosen; `base` fetches the encoder it starts from, `synthesis` has texts read aloud, `corpus` packs recordings,
`alignment` finds out where their words are and `segments` where they may be cut; `chunks` limits what a frame may
look at; `train` runs the loop of `stream_asr.training` on several processes, and `export` writes the model folder.
"""
