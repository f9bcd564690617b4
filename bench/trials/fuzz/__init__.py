"""A fuzzer for all parsers that read from the network or from files; see bench/README.md."""
