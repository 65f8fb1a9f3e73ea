"""How the next embedded English model is made, from public packages and a folder of recordings to a model folder.

The model that ships today is older and was not made by it: this recipe has not beaten it yet.
``python -m recipes.embedded_en --help`` says how to run it. `settings` holds everything that was
chosen; `base` fetches the encoder it starts from, `synthesis` has texts read aloud, `corpus` packs recordings,
`alignment` finds out where their words are and `segments` where they may be cut; `chunks` limits what a frame may
look at; `train` runs the loop of `stream_asr.training` on several processes, and `export` writes the model folder.
"""
