"""Stock Hugging Face models: loading, one encode path, log-probabilities, keyed sampling and reward heads."""
