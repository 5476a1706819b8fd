"""The scripts that made the bundled pictures; see ``__main__`` for how to run them. The package does not need them."""
