"""Local servers that speak the formats of model providers. They know nothing of our code."""
