"""Model providers behind one port. No SDK is imported before it is used."""
