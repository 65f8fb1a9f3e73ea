"""Adapting a CTC model to a user's own recordings.

`finetune` ties the parts together: manifest, alphabet and validation decide what is learnt from; clips, augment,
batches and dataset make batches of it; acoustic holds the model and its loss; loop trains, checkpoint makes a run
that was cut off go on as if it had not been; scoring and output say and save what came of it. The parts know
nothing of each other beyond what they are given, so that another recipe can use them with a model, a data set or a
loss of its own.
"""
