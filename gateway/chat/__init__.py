"""The chat completions of OpenAI's API, where a model is an expert. Not a model: a run answers."""
