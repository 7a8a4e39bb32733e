"""What may be read: folds of the log into views that know their place. Decisions never read it."""
