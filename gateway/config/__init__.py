"""config.toml -> typed structs, every fault with its dotted path."""
