"""Fine-tune a CTC model, and its attention decoder if it has one, on a user's own recordings.

`finetune` combines the parts:

- `manifest`, `alphabet`, `vocabulary`, `validation`: read and check the training data.
- `clips`, `augmentation`, `batching`, `dataset`: turn the data into batches.
- `trainable_ctc`, `trainable_two_pass`: the model without and with an attention decoder, its inputs and its loss.
- `attention_targets`, `transcripts`: the texts that an attention decoder is trained to write.
- `loop`, `schedule`, `progress`, `checkpoint`: train, and resume an interrupted run exactly.
- `hooks`, `scoring`, `artifacts`: evaluate, log and save the model.

Only `finetune` and `hooks` know the whole run. Other training recipes can reuse the parts with another model, data set
or loss; ``recipes/embedded_en`` is one.
"""
