"""Fine-tune a CTC model on a user's own recordings.

`finetune` combines the parts:

- `manifest`, `alphabet`, `vocabulary`, `validation`: read and check the training data.
- `clips`, `augmentation`, `batching`, `dataset`: turn the data into batches.
- `trainable_ctc`: the model, its inputs and its loss.
- `loop`, `schedule`, `progress`, `checkpoint`: train, and resume an interrupted run exactly.
- `hooks`, `scoring`, `artifacts`: evaluate, log and save the model.

Only `finetune` and `hooks` know the whole run. Other training recipes can reuse the parts with another model, data set
or loss; ``recipes/embedded_en`` is one.
"""
