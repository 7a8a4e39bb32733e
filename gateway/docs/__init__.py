"""The page of `/v1/docs`: static files, which show the OpenAPI document. No code of the gateway."""
