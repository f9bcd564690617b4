"""The parts of all speed benches: process costs, interleaved rounds, servers, reports; see bench/README.md."""
