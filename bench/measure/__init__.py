"""What every speed bench is made of: cost as the system counts it, interleaved rounds, reports; see bench/README.md."""
