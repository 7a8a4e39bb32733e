"""Events told to programs that asked for them, by HTTP. Not the streams that programs read."""
