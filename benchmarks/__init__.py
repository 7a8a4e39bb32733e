"""What Peritus costs: measured on the machine it runs on, never asserted in tests."""
