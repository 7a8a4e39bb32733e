"""What the gateway answers, as models: the wire of `/v1`, and what `peritus.client` returns."""
