"""The search by sounds: words found through a model's phones and a lexicon, and weighed with what the model writes."""
