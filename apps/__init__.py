"""Apps that publish commands: each in a folder of its own."""
