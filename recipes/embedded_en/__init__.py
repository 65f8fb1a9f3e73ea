"""Training recipe of the bundled English model, for maintainers. See README.md in this folder.

- `settings`: all tunable values.
- `encoder_weights`: the pretrained encoder.
- `corpus`, `segments`, `synthesis`, `tokenizer`: the training data.
- `augmentation`, `encoder_states`: variants of each recording, and the outputs of the frozen layers for them.
- `dataset`, `network`, `attention_masks`, `muon`, `averaging`, `parallel`, `hooks`, `train`: the training.
- `export`: the model folder.
"""
