"""Adapters between `recognizers.worker` and the recognizers, one module for each."""
